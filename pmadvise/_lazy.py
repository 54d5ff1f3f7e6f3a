"""Modules that are imported when they are first used."""


class LazyModule:
    """Stands for a module until something of it is needed."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> object:
        """Import the module, and return something of it."""
        from importlib import import_module  # noqa: PLC0415 - on first use alone

        return getattr(import_module(self._name), attribute)
