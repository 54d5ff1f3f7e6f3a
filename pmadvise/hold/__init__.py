"""Hold a process still while its memory is looked at and advised."""

from pmadvise.hold.choice import METHODS
from pmadvise.hold.handle import Hold, hold

__all__ = ["METHODS", "Hold", "hold"]
