"""Screens: pictures of the command, ``python docs/screens.py PID`` as root with swap.

It shows a process, pages half of it out and writes `docs/screens/` anew.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

SCREENS = Path(__file__).parent / "screens"
WIDTH = 80
VERBS = {
    "pageout": ["pageout", "PID", "--budget", "50%"],
    "show": ["show", "PID"],
    "check": ["check", "PID"],
}
"""In this order: `show` has the memory that was paged out."""


def output_of(arguments: list[str]) -> str:
    """Return what the command prints on a terminal, without its bar."""
    return subprocess.run(
        [sys.executable, "-m", "pmadvise", *arguments],
        env={**os.environ, "FORCE_COLOR": "1", "COLUMNS": str(WIDTH)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
        timeout=120,
    ).stdout


def svg(name: str, pid: str) -> str:
    """Return the picture of a command for a process."""
    arguments = [pid if word == "PID" else word for word in VERBS[name]]
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        console = Console(
            record=True, width=WIDTH, file=nowhere, color_system="standard"
        )
        console.print(Text(f"$ pmadvise {' '.join(arguments)}", style="bold"))
        console.print(Text.from_ansi(output_of(arguments).rstrip("\n")))
        picture = console.export_svg(title="pmadvise", unique_id=name)
    # The reader's own font: none is loaded from another host.
    picture = re.sub(r" *@font-face \{.*?\}\n", "", picture, flags=re.DOTALL)
    return picture.replace("Fira Code, monospace", "monospace")


def main() -> int:
    """Write every picture; return the exit status."""
    if len(sys.argv) != 2:
        print("usage: python docs/screens.py PID", file=sys.stderr)
        return 2
    for name in VERBS:
        text = svg(name, sys.argv[1])
        (SCREENS / f"{name}.svg").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
