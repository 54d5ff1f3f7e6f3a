"""Hook for PyInstaller, found by the entry point `pyinstaller40`."""

import os


def hook_dirs() -> list[str]:
    """Return the directories that have hooks."""
    return [os.path.dirname(__file__)]
