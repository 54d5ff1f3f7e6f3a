"""Describe the extension ``pmadvise._ffi`` to CFFI (API mode)."""

import glob
import os
import sys

from cffi import FFI

if not sys.platform.startswith("linux"):
    sys.exit(
        "pmadvise wraps process_madvise(2), a system call of Linux: "
        f"it can't be built for {sys.platform}."
    )

# setuptools wants paths relative to setup.py, where builds run.
HERE = os.path.dirname(os.path.abspath(__file__))
HEADERS = sorted(glob.glob("csrc/*.h", root_dir=HERE))
SOURCES = sorted(glob.glob("csrc/*.c", root_dir=HERE))

ffibuilder = FFI()
with open(os.path.join(HERE, "csrc/pmadvise.h"), encoding="utf-8") as header:
    ffibuilder.cdef(header.read())
ffibuilder.set_source(
    "pmadvise._ffi",
    '#include <stdint.h>\n#include <sys/types.h>\n#include "pmadvise.h"',
    sources=SOURCES,
    include_dirs=["csrc"],
    extra_compile_args=["-fvisibility=hidden"],
    depends=["build_pmadvise.py", *HEADERS],
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
