"""Compile the C for every ABI that Debian has a compiler for, without a warning.

    python tests/cross.py [ABI ...]         all of them, or those named
    python tests/cross.py --packages        the Debian packages that they need

csrc/syscall_nr.h asserts its numbers against the headers of each, which must
have them.  Of the tables that Linux has, ia64, microblaze and xtensa stay untried.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
WARNINGS = ("all", "extra", "pedantic", "conversion", "shadow", "error")
FLAGS = (
    *("-std=c11", "-O2", "-S", "-o", "/dev/null"),
    *(f"-W{warning}" for warning in WARNINGS),
    *("-Wstrict-prototypes", "-Wmissing-prototypes"),
)
HEADERS_KNOW = b"""\
#include <sys/syscall.h>
int numbers[] = {__NR_pidfd_open, __NR_process_madvise};
"""

# name: the compiler, and the Debian packages of it and of its headers
ABIS = {
    "x86_64": ("x86_64-linux-gnu-gcc", "gcc libc6-dev"),
    "aarch64": (
        "aarch64-linux-gnu-gcc",
        "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
    ),
    "ppc64le": (
        "powerpc64le-linux-gnu-gcc",
        "gcc-powerpc64le-linux-gnu libc6-dev-ppc64el-cross",
    ),
    "s390x": ("s390x-linux-gnu-gcc", "gcc-s390x-linux-gnu libc6-dev-s390x-cross"),
    "alpha": ("alpha-linux-gnu-gcc", "gcc-alpha-linux-gnu libc6.1-dev-alpha-cross"),
    "arc": ("arc-linux-gnu-gcc", "gcc-arc-linux-gnu libc6-dev-arc-cross"),
    "arm": ("arm-linux-gnueabihf-gcc", "gcc-arm-linux-gnueabihf libc6-dev-armhf-cross"),
    "armel": ("arm-linux-gnueabi-gcc", "gcc-arm-linux-gnueabi libc6-dev-armel-cross"),
    "hppa": ("hppa-linux-gnu-gcc", "gcc-hppa-linux-gnu libc6-dev-hppa-cross"),
    "i386": ("i686-linux-gnu-gcc", "gcc-i686-linux-gnu libc6-dev-i386-cross"),
    "m68k": ("m68k-linux-gnu-gcc", "gcc-m68k-linux-gnu libc6-dev-m68k-cross"),
    "mips-o32": ("mips-linux-gnu-gcc", "gcc-mips-linux-gnu libc6-dev-mips-cross"),
    "mips-n32": (
        "mips64-linux-gnuabi64-gcc -mabi=n32",
        "gcc-mips64-linux-gnuabi64 libc6-dev-mipsn32-mips64-cross",
    ),
    "mips-n64": (
        "mips64-linux-gnuabi64-gcc",
        "gcc-mips64-linux-gnuabi64 libc6-dev-mips64-cross",
    ),
    "mipsel-o32": (
        "mipsel-linux-gnu-gcc",
        "gcc-mipsel-linux-gnu libc6-dev-mipsel-cross",
    ),
    "mipsel-n64": (
        "mips64el-linux-gnuabi64-gcc",
        "gcc-mips64el-linux-gnuabi64 libc6-dev-mips64el-cross",
    ),
    "powerpc": (
        "powerpc-linux-gnu-gcc",
        "gcc-powerpc-linux-gnu libc6-dev-powerpc-cross",
    ),
    "ppc64": (
        "powerpc64-linux-gnu-gcc",
        "gcc-powerpc64-linux-gnu libc6-dev-ppc64-cross",
    ),
    "riscv64": (
        "riscv64-linux-gnu-gcc",
        "gcc-riscv64-linux-gnu libc6-dev-riscv64-cross",
    ),
    "sh4": ("sh4-linux-gnu-gcc", "gcc-sh4-linux-gnu libc6-dev-sh4-cross"),
    "sparc": (
        "sparc64-linux-gnu-gcc -m32",
        "gcc-sparc64-linux-gnu libc6-dev-sparc-sparc64-cross",
    ),
    "sparc64": (
        "sparc64-linux-gnu-gcc",
        "gcc-sparc64-linux-gnu libc6-dev-sparc64-cross",
    ),
    "x32": ("x86_64-linux-gnux32-gcc", "gcc-x86-64-linux-gnux32 libc6-dev-x32-cross"),
}


def said(compiler: list[str], *arguments: str | Path, text: bytes = b"") -> str:
    """Compile, and return what the compiler has to say: nothing, if all is well."""
    done = subprocess.run(
        (*compiler, *FLAGS, *arguments),
        input=text,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    failed = f"exit status {done.returncode}\n" if done.returncode else ""
    return done.stdout.decode(errors="replace") + failed


def complaints(compiler: list[str]) -> str:
    """Return what a compiler says of the headers' numbers and of each C file."""
    found = said(compiler, "-x", "c", "-", text=HEADERS_KNOW)
    for source in sorted((ROOT / "csrc").glob("*.c")):
        found += said(compiler, source)
    return found


def main(argv: list[str] | None = None) -> int:
    """Compile for each ABI, and print a line for it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--packages", action="store_true")
    parser.add_argument("abi", nargs="*", metavar="ABI")
    options = parser.parse_args(argv)
    wanted = options.abi or list(ABIS)
    if unknown := set(wanted) - ABIS.keys():
        parser.error(f"no such ABI: {' '.join(sorted(unknown))}")
    if options.packages:
        print(*(ABIS[name][1] for name in wanted))
        return 0
    bad = 0
    for name in wanted:
        compiler, packages = ABIS[name][0].split(), ABIS[name][1]
        found = (
            complaints(compiler)
            if shutil.which(compiler[0])
            else f"no {compiler[0]}: install {packages}"
        )
        bad += bool(found)
        print("FAIL" if found else "ok", name, found, flush=True)
    print(f"{len(wanted) - bad} passed, {bad} failed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
