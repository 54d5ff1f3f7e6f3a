"""What pyproject.toml cannot say: CFFI's module, the wheel's tag, README's links."""

import re
import sys
import sysconfig

if sys.implementation.name != "cpython":
    sys.exit(
        f"pmadvise needs CPython: it can't be built for {sys.implementation.name}, "
        "whose threads and descriptors it has not been made for."
    )

import cffi
from setuptools import setup
from setuptools.command import bdist_wheel
from setuptools.command.egg_info import egg_info


def limited_api() -> dict[str, str]:
    """Return the option by which the wheel is tagged as CFFI builds the extension."""
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        return {"py_limited_api": "cp310"}
    # Free-threaded CPython has a limited API, abi3t, since 3.15; CFFI builds for it
    # since 2.1. Older versions of setuptools have no such tag.
    builds = sys.version_info >= (3, 15) and cffi.__version_info__ >= (2, 1)
    tag = getattr(bdist_wheel, "stable_abi_tag", lambda *_: "")("cp", "315")
    return {"py_limited_api": "cp315"} if builds and "abi3t" in tag else {}


class AbsoluteLinks(egg_info):
    """The metadata, with a README whose links lead somewhere on an index's page."""

    def run(self) -> None:
        """Write the metadata; those that have such links are left as they are."""
        metadata = self.distribution.metadata
        source = metadata.project_urls["Source"]  # type: ignore[attr-defined]
        version = metadata.version
        raw = source.replace("github.com", "raw.githubusercontent.com")
        text = str(metadata.long_description)
        text = re.sub(r"(!\[[^]]*\]\()(?!https?:)", rf"\1{raw}/v{version}/", text)
        text = re.sub(r"(\]\()(?!https?:|#)", rf"\1{source}/blob/v{version}/", text)
        metadata.long_description = text
        super().run()


setup(
    cffi_modules=["build_pmadvise.py:ffibuilder"],
    cmdclass={"egg_info": AbsoluteLinks},
    options={"bdist_wheel": limited_api()},
)
