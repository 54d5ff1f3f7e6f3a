"""Fuzz every exported function of csrc/ under ASan and UBSan, by libFuzzer.

    python tests/stress/fuzz/run.py [--seconds 60] [HARNESS ...]
    python tests/stress/fuzz/run.py HARNESS --reproduce FILE
    python tests/stress/fuzz/run.py --packages      the Debian packages that it needs

A harness is a C file beside this one: it makes arguments of the bytes that libFuzzer
gives it, and checks what comes back. They run as many at a time as there are CPUs, and
the time is that of all together; what they find that reaches new code is kept in
--directory, and the next run goes on from there. For each it prints how often it was
run, and for all how much of csrc/ they reached. Exit status 1 if one failed, or if an
exported function was reached by none; the input that did it stays in the directory.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[3]
HERE = Path(__file__).parent
SEEDS = HERE / "seeds"
SHARED = ("input", "kernel")
REPLAY = "replay"
"""Its main(), where libFuzzer is not."""
HARNESSES = sorted({path.stem for path in HERE.glob("*.c")} - {*SHARED, REPLAY})
PACKAGES = "clang libclang-rt-dev llvm"
FLAGS = (
    *("-std=c11", "-g", "-O1", "-Wall", "-Wextra", "-Werror"),
    *("-fsanitize=fuzzer-no-link,address,undefined", "-fno-sanitize-recover=all"),
    *("-fprofile-instr-generate", "-fcoverage-mapping"),
)
LINK = ("-fsanitize=fuzzer,address,undefined", "-fprofile-instr-generate")
WRAPPED = (
    *("openat", "read", "pread", "close", "ioctl", "syscall", "fdopendir", "readdir"),
    *(
        "pwrite",
        "closedir",
        "nanosleep",
        "getpagesize",
        "readlinkat",
        "kill",
        "waitid",
        "ptrace",
    ),
)
LIMITS = ("-timeout=10", "-rss_limit_mb=1024", "-max_len=2048", "-len_control=0")
START = 60
"""Seconds that libFuzzer may take beyond its time, to start and to report."""


class Outcome(NamedTuple):
    """What came of a harness, and how often it was run."""

    harness: str
    failed: bool
    log: str
    runs: int


def exported() -> set[str]:
    """Return the names of the functions that the header declares."""
    text = (ROOT / "csrc/pmadvise.h").read_text(encoding="utf-8")
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    return set(re.findall(r"\b(pmadvise_\w+)\(", text))


def tool(name: str) -> str:
    """Return the path of a program of LLVM."""
    path = shutil.which(name)
    if path is None:
        sys.exit(f"no {name}: apt install {PACKAGES}")
    return path


def build(directory: Path, harnesses: list[str]) -> None:
    """Compile csrc/ and the harnesses, each to a program of its name."""
    compiler = tool("clang")
    common = [*sorted((ROOT / "csrc").glob("*.c")), *(HERE / f"{n}.c" for n in SHARED)]
    for source in [*common, *(HERE / f"{name}.c" for name in harnesses)]:
        output = directory / f"{source.parent.name}-{source.stem}.o"
        subprocess.run([compiler, *FLAGS, "-c", source, "-o", output], check=True)
    objects = [directory / f"{path.parent.name}-{path.stem}.o" for path in common]
    wraps = [f"-Wl,--wrap={name}" for name in WRAPPED]
    for name in harnesses:
        harness = directory / f"fuzz-{name}.o"
        subprocess.run(
            [compiler, *LINK, *wraps, *objects, harness, "-o", directory / name],
            check=True,
        )


def fuzz(directory: Path, harness: str, seconds: int) -> Outcome:
    """Run a harness for a time, from its seeds and from what was found before."""
    corpus = directory / "corpus" / harness
    corpus.mkdir(parents=True, exist_ok=True)
    seeds = [SEEDS / harness] if (SEEDS / harness).is_dir() else []
    command: list[Path | str] = [directory / harness, *LIMITS, *(corpus, *seeds)]
    command += [f"-max_total_time={seconds}", "-print_final_stats=1"]
    command += [f"-artifact_prefix={directory}/{harness}-"]
    try:
        done = subprocess.run(
            command,
            env={**os.environ, "LLVM_PROFILE_FILE": f"{directory}/{harness}.profraw"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds + START,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        log = (late.stdout or b"").decode(errors="replace")
        return Outcome(harness, True, f"{log}\nit did not end", 0)
    log = done.stdout.decode(errors="replace")
    runs = re.search(r"number_of_executed_units: (\d+)", log)
    count = int(runs[1]) if runs else 0
    return Outcome(harness, done.returncode != 0, log, count)


def report(outcome: Outcome) -> None:
    """Print what came of a harness, and how to run it again if it failed."""
    verdict = "FAIL" if outcome.failed else "ok"
    print(f"{verdict} {outcome.harness}: {outcome.runs} runs", flush=True)
    if outcome.failed:
        print(outcome.log[-6000:])
        for path in re.findall(r"Test unit written to (\S+)", outcome.log):
            print(f"again: python {sys.argv[0]} {outcome.harness} --reproduce {path}")


def reached(directory: Path, harnesses: list[str]) -> set[str]:
    """Print how much of csrc/ was reached, and return the functions that were."""
    merged = directory / "merged.profdata"
    raw = [
        path for name in harnesses if (path := directory / f"{name}.profraw").exists()
    ]
    subprocess.run([tool("llvm-profdata"), "merge", "-o", merged, *raw], check=True)
    programs = [directory / name for name in harnesses]
    command: list[Path | str] = [tool("llvm-cov"), "export", "-instr-profile", merged]
    command += [*programs[:1], *(f"-object={path}" for path in programs[1:])]
    command += sorted((ROOT / "csrc").glob("*.c"))
    exported = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    (data,) = json.loads(exported.stdout)["data"]
    for kind in ("functions", "lines", "branches"):
        total = data["totals"][kind]
        print(f"{total['covered']} of {total['count']} {kind} of csrc/ were reached")
    return {one["name"] for one in data["functions"] if one["count"]}


def main(argv: list[str] | None = None) -> int:
    """Build, run, and report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("harness", nargs="*", metavar="HARNESS")
    parser.add_argument("--seconds", type=int, default=60, help="of all together")
    parser.add_argument("--directory", type=Path, default=ROOT / "build/fuzz")
    parser.add_argument("--reproduce", type=Path, metavar="FILE")
    parser.add_argument("--packages", action="store_true")
    options = parser.parse_args(argv)
    if options.packages:
        print(PACKAGES)
        return 0
    harnesses = options.harness or HARNESSES
    if unknown := set(harnesses) - set(HARNESSES):
        parser.error(f"no such harness: {', '.join(sorted(unknown))}")
    directory = options.directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    build(directory, harnesses)
    if options.reproduce:
        (name,) = harnesses
        return subprocess.run(
            [directory / name, options.reproduce], check=False
        ).returncode
    cpus = len(os.sched_getaffinity(0))
    seconds = max(1, options.seconds * cpus // len(harnesses))
    for old in directory.glob("*.profraw"):
        old.unlink()
    outcomes = []
    with concurrent.futures.ThreadPoolExecutor(cpus) as pool:
        runs = [pool.submit(fuzz, directory, name, seconds) for name in harnesses]
        for run in concurrent.futures.as_completed(runs):
            outcomes.append(run.result())
            report(outcomes[-1])
    found = reached(directory, harnesses)
    missed = exported() - found if harnesses == HARNESSES else set()
    for name in sorted(missed):
        print(f"FAIL {name} was reached by no harness")
    return 1 if missed or any(outcome.failed for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
