"""Directives of the guide: ``.. verb:: NAME``, and ``.. remedies::``."""

from __future__ import annotations

import re
from collections.abc import Iterator

import verbs
from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from remedies import remedies
from sphinx.application import Sphinx


class Verb(Directive):
    """A verb of the command; or what several share, by the title of verbs.groups()."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Return the nodes."""
        [name] = self.arguments
        found = {group.title: group for group in verbs.groups()}
        parsed = nodes.container(document=self.state.document)
        lines = StringList(list(_text(found[name])), source=__file__)
        self.state.nested_parse(lines, 0, parsed)
        return parsed.children


class Remedies(Directive):
    """The remedies that several messages share, as the messages have them."""

    def run(self) -> list[nodes.Node]:
        """Return the nodes."""
        rows = remedies()
        items = [
            nodes.definition_list_item(
                "",
                nodes.term(text=title),
                nodes.definition("", nodes.paragraph(text=text)),
            )
            for title, text in rows.items()
        ]
        return [nodes.definition_list("", *items)]


def _text(group: verbs.Group) -> Iterator[str]:
    context = verbs.contexts().get(group.title)
    yield f".. program:: {context.command_path if context else 'pmadvise'}"
    if context is not None:
        yield from _block("text", verbs.usage(context))
    elif group.title != "Every verb":
        yield from ("", f"Of {', '.join(f'``{name}``' for name in group.verbs)}.", "")
    yield from _paragraphs(group.help)
    for names, text in group.options:
        yield from ("", f".. option:: {names}", "", f"   {_escape(text)}", "")
    if context is not None:
        yield from _paragraphs(context.command.epilog or "")


def _paragraphs(text: str) -> Iterator[str]:
    for is_literal, paragraph in verbs.paragraphs(text):
        if is_literal:
            title, *lines = paragraph.split("\n")
            yield from ("", title)
            yield from _block(
                "console", "\n".join(f"$ {line.strip()}" for line in lines)
            )
        else:
            yield from ("", _escape(paragraph), "")


def _block(language: str, text: str) -> Iterator[str]:
    yield from ("", f".. code-block:: {language}", "")
    yield from (f"   {line}" for line in text.rstrip("\n").split("\n"))
    yield ""


def _escape(text: str) -> str:
    """Return a text in which `code` and options are markup, and nothing else."""
    text = re.sub(r"[\\*|_]", r"\\\g<0>", text)
    return re.sub(r"(?<![`\w-])--\w[\w-]*", r"``\g<0>``", text)


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directives."""
    app.add_directive("verb", Verb)
    app.add_directive("remedies", Remedies)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
