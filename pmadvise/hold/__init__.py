"""Processes held still while their memory is read and advised."""

from pmadvise.hold.handle import Hold, hold
from pmadvise.hold.methods import METHODS, check_method

__all__ = ["METHODS", "Hold", "check_method", "hold"]
