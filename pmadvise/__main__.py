"""Entry point of the command `pmadvise` and of ``python -m pmadvise``."""

import sys

from pmadvise import _interrupt

_NEEDED = ("click", "humanize", "rich")


def main() -> int:
    """Run the command; return its exit status."""
    _interrupt.ends()
    from pmadvise import _streams  # noqa: PLC0415 - Ctrl-C may come already

    return _streams.run("pmadvise", _command)


def _command() -> int:
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
    from importlib.util import find_spec  # noqa: PLC0415 - Ctrl-C may come already

    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # from a finder
        return False


if __name__ == "__main__":
    sys.exit(main())
