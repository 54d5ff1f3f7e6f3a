"""``python -m pmadvise.selftest``."""

import sys

from pmadvise.selftest.main import main

sys.exit(main())
