"""Handles: one process and one address space, and never later ones."""
