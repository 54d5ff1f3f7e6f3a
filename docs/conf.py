"""The configuration of the guide: ``.ci/docs`` builds it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import tomllib

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # the API of this tree, whatever is installed

_METADATA = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

project = "pmadvise"
author = "The pmadvise developers"
project_copyright = author
release = _METADATA["project"]["version"]

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
]
myst_heading_anchors = 3  # links to headings, [text](page.md#heading), are checked
default_role = "code"  # `name` in a docstring
smartquotes = False  # "--json" is not a dash
autodoc_member_order = "bysource"
napoleon_use_ivar = False

html_theme = "furo"
html_title = f"pmadvise {release}"
html_copy_source = False
html_show_sphinx = False
html_static_path = ["static"]
html_css_files = ["guide.css"]
html_theme_options = {
    "source_repository": _METADATA["project"]["urls"]["Source"],
    "source_branch": "main",
    "source_directory": "docs/",
}


def _is_internal(
    _app: Sphinx, _what: str, _name: str, value: object, _skip: bool, _options: object
) -> bool | None:
    """Leave out the methods that are there for pmadvise itself."""
    summary = (getattr(value, "__doc__", None) or "").partition("\n")[0]
    return True if summary.endswith("; for pmadvise itself.") else None


def setup(app: Sphinx) -> None:
    """Register what the extensions are to ask."""
    app.connect("autodoc-skip-member", _is_internal)
