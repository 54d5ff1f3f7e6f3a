"""Measurements of pmadvise, and what it is measured against: python -m benchmarks."""
