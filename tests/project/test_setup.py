"""Set-up: Pythons that are refused, the tag of the wheel, and missing extensions."""

from __future__ import annotations

import runpy
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cffi
import pytest
import setuptools
from helpers.needs import ROOT
from setuptools.command import bdist_wheel

pytestmark = [pytest.mark.no_swap, pytest.mark.needs_sources]


def options_of(
    monkeypatch: pytest.MonkeyPatch,
    *,
    free_threaded: int,
    python: tuple[int, int] = (3, 15),
    made_by: tuple[int, int] = (2, 1),
    tag: str = "abi3.abi3t",
) -> Any:
    """Return the options of the wheel that setup.py asks for with these tools."""
    options: dict[str, Any] = {}
    monkeypatch.setattr(setuptools, "setup", lambda **given: options.update(given))
    monkeypatch.setattr(sysconfig, "get_config_var", lambda _: free_threaded)
    monkeypatch.setattr(sys, "version_info", (*python, 0, "final", 0))
    monkeypatch.setattr(cffi, "__version_info__", made_by)
    monkeypatch.setattr(bdist_wheel, "stable_abi_tag", lambda *_: tag, raising=False)
    runpy.run_path(str(ROOT / "setup.py"))
    return options["options"]["bdist_wheel"]


@pytest.mark.parametrize("python", [(3, 10), (3, 15)])
def test_tag_with_a_gil(
    monkeypatch: pytest.MonkeyPatch, python: tuple[int, int]
) -> None:
    """One wheel is for every CPython with a GIL."""
    options = options_of(monkeypatch, free_threaded=0, python=python)
    assert options == {"py_limited_api": "cp310"}


def test_tag_of_abi3t(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where CFFI builds for abi3t, the wheel is tagged so."""
    options = options_of(monkeypatch, free_threaded=1)
    assert options == {"py_limited_api": "cp315"}


@pytest.mark.parametrize(
    "older", [{"python": (3, 14)}, {"made_by": (2, 0)}, {"tag": "abi3"}], ids=str
)
def test_tag_without_abi3t(
    monkeypatch: pytest.MonkeyPatch, older: dict[str, Any]
) -> None:
    """An older Python, CFFI or setuptools gives a wheel of that Python alone."""
    assert options_of(monkeypatch, free_threaded=1, **older) == {}


def test_another_implementation_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyPy is told in one line that it can't be built for."""
    monkeypatch.setattr(sys, "implementation", SimpleNamespace(name="pypy"))
    with pytest.raises(SystemExit, match=r"needs CPython.* for pypy") as caught:
        runpy.run_path(str(ROOT / "setup.py"))
    assert str(caught.value).count("\n") == 0


@pytest.mark.parametrize(
    ("before", "words"),
    [
        ("", "pip install -e ."),
        ("sys.implementation.name = 'pypy';", "does not work on pypy"),
    ],
    ids=["clone", "pypy"],
)
def test_import_without_the_extension(tmp_path: Path, before: str, words: str) -> None:
    """Sources that are not built are told from the installed package, with a remedy."""
    ignored = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(ROOT / "pmadvise", tmp_path / "pmadvise", ignore=ignored)
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {before} import pmadvise"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )
    last = done.stderr.rstrip().rpartition("\n")[2]
    assert last.startswith("ImportError: pmadvise")
    assert words in last


APP = """
import pmadvise
with pmadvise.Process(1) as process:
    print(process.pid, pmadvise.support().kernel != "")
"""


@pytest.mark.slow
@pytest.mark.needs_tool("PyInstaller")
def test_pyinstaller(tmp_path: Path) -> None:
    """A program that PyInstaller has bundled runs, without an option."""
    (tmp_path / "app.py").write_text(APP)
    subprocess.run(
        [
            *(sys.executable, "-m", "PyInstaller", "--log-level=ERROR"),
            *("--additional-hooks-dir", str(ROOT / "pmadvise/_pyinstaller")),
            *("--paths", str(ROOT), "app.py"),
        ],
        cwd=tmp_path,
        check=True,
        timeout=250,
    )
    done = subprocess.run(
        [str(tmp_path / "dist/app/app")], stdout=subprocess.PIPE, text=True, check=True
    )
    assert done.stdout == "1 True\n"
