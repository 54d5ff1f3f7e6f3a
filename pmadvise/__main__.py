"""Entry point of the command `pmadvise` and of ``python -m pmadvise``."""

import sys
from importlib.util import find_spec

_NEEDED = ("click", "humanize", "rich")


def main() -> int:
    """Run the command; return its exit status."""
    missing = [name for name in _NEEDED if not _is_installed(name)]
    if missing:
        print(
            f"pmadvise: the command needs {', '.join(missing)}: "
            "pip install 'pmadvise[cli]'",
            file=sys.stderr,
        )
        return 1
    from pmadvise.command.app import run  # noqa: PLC0415 - needs these

    return run()


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # from a finder
        return False


if __name__ == "__main__":
    sys.exit(main())
