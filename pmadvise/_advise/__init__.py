"""Advice to any ranges, in calls that the target can bear, with a true account."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pmadvise._advise.keywords import AdviseOptions as AdviseOptions
    from pmadvise._advise.keywords import Cancel as Cancel
    from pmadvise._advise.keywords import Unpack as Unpack

_KEYWORDS = ("AdviseOptions", "Cancel", "Unpack")


def __getattr__(name: str) -> object:
    """Load a type of the keywords for those who read annotations: it needs typing."""
    if name not in _KEYWORDS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - in this case alone

    return getattr(import_module(f"{__name__}.keywords"), name)
