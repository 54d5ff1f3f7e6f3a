"""The command `pmadvise`, and ``python -m pmadvise``."""

import sys

_NEEDED = frozenset({"bitmath", "click", "humanize", "rich"})


def main() -> int:
    """Run the command; return its exit status."""
    try:
        from pmadvise.command.app import run  # noqa: PLC0415 - may be missing
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _NEEDED:
            raise
        print(
            f"pmadvise: the command needs {missing}, which is not installed: "
            "pip install 'pmadvise[cli]'",
            file=sys.stderr,
        )
        return 1
    return run()


if __name__ == "__main__":
    sys.exit(main())
