"""The configuration of the guide: ``.ci/docs`` builds it."""

from __future__ import annotations

import sys
from pathlib import Path

import tomllib
from docutils import nodes
from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]  # this tree, whatever is installed

_METADATA = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

project = "pmadvise"
author = "The pmadvise developers"
project_copyright = author
release = _METADATA["project"]["version"]

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "directives",
]
myst_heading_anchors = 3  # links to headings, [text](page.md#heading), are checked
nitpicky = True  # a link to nothing, or prose that is read as a type, is a warning
nitpick_ignore_regex = [("py:class", r"(collections\.abc|os)\.\w+|pmadvise\.idle\.\w+")]
default_role = "code"  # `name` in a docstring
smartquotes = False  # "--json" is not a dash
autodoc_member_order = "bysource"
napoleon_use_ivar = False
napoleon_numpy_docstring = False  # a second look at each docstring

copybutton_prompt_text = r">>> |\.\.\. |\$ "  # what is copied are the lines behind one
copybutton_prompt_is_regexp = True

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


def setup(app: Sphinx) -> None:
    """Give texts an empty type, for napoleon, and plots a class, for guide.css."""
    app.connect("autodoc-process-docstring", _without_type, priority=400)  # before it
    app.connect("doctree-read", _mark_plots)


def _without_type(
    _app: Sphinx,
    what: str,
    _name: str,
    _obj: object,
    _options: object,
    lines: list[str],
) -> None:
    # It takes the text before the first colon for the type, which is annotated here.
    texts = [0] if what in {"attribute", "data", "property"} and lines else []
    texts += [i + 1 for i, line in enumerate(lines) if line == "Returns:"]
    for i in texts:
        text = lines[i].lstrip()
        lines[i] = f"{' ' * (len(lines[i]) - len(text))}: {text}"


def _mark_plots(_app: Sphinx, document: nodes.document) -> None:
    # For guide.css: a plot is dark on white, the screens are dark in either theme.
    for image in document.findall(nodes.image):
        if "plots/" in image["uri"]:
            image["classes"].append("plot")
