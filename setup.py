"""What pyproject.toml cannot say: CFFI's module, the wheel's tag, README's links."""

import re
import sys
import sysconfig
from pathlib import Path

if sys.implementation.name != "cpython":
    sys.exit(
        f"pmadvise needs CPython: it can't be built for {sys.implementation.name}, "
        "whose threads and descriptors it has not been made for."
    )

import cffi
from setuptools import setup
from setuptools.command import bdist_wheel


def limited_api() -> dict[str, str]:
    """Return the option by which the wheel is tagged as CFFI builds the extension."""
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        return {"py_limited_api": "cp310"}
    # Free-threaded CPython has a limited API, abi3t, since 3.15; CFFI builds for it
    # since 2.1. Older versions of setuptools have no such tag.
    builds = sys.version_info >= (3, 15) and cffi.__version_info__ >= (2, 1)
    tag = getattr(bdist_wheel, "stable_abi_tag", lambda *_: "")("cp", "315")
    return {"py_limited_api": "cp315"} if builds and "abi3t" in tag else {}


def description() -> str:
    """Return README with links that lead somewhere from the page of an index too."""
    root = Path(__file__).parent
    project = (root / "pyproject.toml").read_text(encoding="utf-8")
    (version,) = re.findall(r'^version = "(.+)"$', project, re.MULTILINE)
    (source,) = re.findall(r'^Source = "(.+)"$', project, re.MULTILINE)
    raw = source.replace("github.com", "raw.githubusercontent.com")
    text = (root / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"(!\[[^]]*\]\()(?!https?:)", rf"\1{raw}/v{version}/", text)
    return re.sub(r"(\]\()(?!https?:|#)", rf"\1{source}/blob/v{version}/", text)


setup(
    long_description=description(),
    long_description_content_type="text/markdown",
    cffi_modules=["build_pmadvise.py:ffibuilder"],
    options={"bdist_wheel": limited_api()},
)
