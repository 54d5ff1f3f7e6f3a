"""The start of ``python -m pmadvise.selftest``."""

import sys

from pmadvise import _interrupt


def _main() -> int:
    from pmadvise.selftest.command import main  # noqa: PLC0415 - Ctrl-C may come

    _interrupt.raises()
    return main()


def _run() -> int:
    _interrupt.ends()
    from pmadvise import _streams  # noqa: PLC0415 - likewise

    return _streams.run("python -m pmadvise.selftest", _main)


if __name__ == "__main__":
    sys.exit(_run())
