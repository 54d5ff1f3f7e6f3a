"""What is shipped: the files of the wheel and of the sdist."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers.builds import build_dists, copy_sources
from helpers.needs import ROOT

pytestmark = [
    pytest.mark.no_swap,
    pytest.mark.slow,
    pytest.mark.needs_sources,
    pytest.mark.needs_compiler,
]


class Dists(NamedTuple):
    """What was built, and the names of the files in each."""

    metadata: tuple[Message, Message]
    """Of the sdist, and of the wheel."""
    wheel: Path
    in_wheel: set[str]
    in_sdist: set[str]


@pytest.fixture(scope="module")
def dists(tmp_path_factory: pytest.TempPathFactory) -> Dists:
    """The sdist, and the wheel that is built from it."""
    source = tmp_path_factory.mktemp("source")
    copy_sources(source)
    sdist, wheel = build_dists(source, tmp_path_factory.mktemp("dist"))
    with tarfile.open(sdist) as tar:
        files = [member.name for member in tar.getmembers() if member.isfile()]
        info = tar.extractfile(f"{sdist.name.removesuffix('.tar.gz')}/PKG-INFO")
        assert info is not None
        of_sdist = message_from_bytes(info.read())
    with zipfile.ZipFile(wheel) as archive:
        name = f"{'-'.join(wheel.name.split('-')[:2])}.dist-info/METADATA"
        of_wheel = message_from_bytes(archive.read(name))
    return Dists(
        (of_sdist, of_wheel),
        wheel,
        set(zipfile.ZipFile(wheel).namelist()),
        {name.partition("/")[2] for name in files},
    )


def package_files(*suffixes: str) -> set[str]:
    """Return the paths of the package's files with these suffixes, in this tree."""
    return {
        str(path.relative_to(ROOT))
        for path in (ROOT / "pmadvise").rglob("*")
        if path.suffix in suffixes
    }


def test_wheel_has_the_package_and_nothing_else(dists: Dists) -> None:
    """Every module of every sub-package is there, the types, and one extension."""
    files = {name for name in dists.in_wheel if ".dist-info/" not in name}
    extensions = {name for name in files if name.endswith(".so")}
    assert len(extensions) == 1
    assert files - extensions == package_files(".py", ".pyi", ".typed")


def test_wheel_has_the_licence(dists: Dists) -> None:
    """The wheel carries the licence that it is under."""
    assert [name for name in dists.in_wheel if name.endswith("/licenses/LICENSE")] != []


def test_sdist_builds_without_a_clone(dists: Dists) -> None:
    """All that the build reads is in the sdist: the wheel above was built from it."""
    sources = {f"csrc/{path.name}" for path in (ROOT / "csrc").glob("*.[ch]")}
    wanted = {"LICENSE", "README.md", "build_pmadvise.py", "pyproject.toml", "setup.py"}
    wanted |= sources | package_files(".py", ".pyi", ".typed")
    assert wanted - dists.in_sdist == set()


def test_sdist_has_nothing_generated(dists: Dists) -> None:
    """No tests, no object files, no generated C, no caches."""
    made = {".so", ".o", ".pyc"}
    assert [
        name
        for name in dists.in_sdist
        if Path(name).suffix in made
        or name == "pmadvise/_ffi.c"
        or name.startswith("tests/")
    ] == []


def test_wheel_s_package_is_whole(dists: Dists, tmp_path: Path) -> None:
    """Every module of the unpacked wheel imports, without the sources on the path."""
    zipfile.ZipFile(dists.wheel).extractall(tmp_path)
    code = (
        "import importlib, pkgutil, sys\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "import pmadvise\n"
        f"assert pmadvise.__file__.startswith({str(tmp_path)!r})\n"
        "for module in pkgutil.walk_packages(pmadvise.__path__, 'pmadvise.'):\n"
        "    if not module.name.endswith(('__main__', 'hook-pmadvise')):\n"
        "        importlib.import_module(module.name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "")


LINK = re.compile(r"(!?)\[[^]]*\]\(([^)]+)\)")


def test_links_of_the_description_are_absolute(dists: Dists) -> None:
    """On the page of an index each link and picture of README leads to its file."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    relative = [link for link in LINK.findall(readme) if "://" not in link[1]]
    assert ("!", "docs/screens/pageout.svg") in relative
    for metadata in dists.metadata:
        assert metadata["Description-Content-Type"] == "text/markdown"
        text = metadata.get_payload(decode=True)
        assert isinstance(text, bytes)
        links = LINK.findall(text.decode())
        version = f"v{metadata['Version']}"
        places = {
            "!": f"https://raw.githubusercontent.com/pmadvise/pmadvise/{version}/",
            "": f"https://github.com/pmadvise/pmadvise/blob/{version}/",
        }
        assert [link for link in links if not link[1].startswith("https://")] == []
        assert [
            link for kind, link in relative if (kind, places[kind] + link) not in links
        ] == []


def test_description_is_readme(dists: Dists) -> None:
    """But for the links, the description is README, word for word."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for metadata in dists.metadata:
        text = metadata.get_payload(decode=True)
        assert isinstance(text, bytes)
        assert LINK.sub("", text.decode()).strip() == LINK.sub("", readme).strip()
