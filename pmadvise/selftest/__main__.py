"""The start of ``python -m pmadvise.selftest``."""

import sys

from pmadvise.selftest.command import main

sys.exit(main())
