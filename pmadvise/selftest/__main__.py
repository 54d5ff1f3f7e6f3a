"""The start of ``python -m pmadvise.selftest``."""

import sys


def _main() -> int:
    from pmadvise import _take_interrupts  # noqa: PLC0415 - Ctrl-C may come
    from pmadvise.selftest.command import main  # noqa: PLC0415 - likewise

    _take_interrupts()
    return main()


def _run() -> int:
    try:
        from pmadvise import _streams  # noqa: PLC0415 - likewise

        return _streams.run("python -m pmadvise.selftest", _main)
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(_run())
