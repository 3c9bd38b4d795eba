"""For the reference: the doctest at the end of a docstring becomes its "Examples" section."""

from __future__ import annotations

import re

import griffe

__all__ = ["Doctests"]

_FIRST = re.compile(r"^>>> ", re.MULTILINE)


class Doctests(griffe.Extension):
    """Puts `Examples:` before the first `>>>`; without it Markdown would make quotations of the lines."""

    def on_object(self, *, obj: griffe.Object, **_: object) -> None:
        """Rewrite the docstring of one object."""
        if obj.docstring is None or (found := _FIRST.search(obj.docstring.value)) is None:
            return
        text, tests = obj.docstring.value[: found.start()], obj.docstring.value[found.start() :]
        indented = "\n".join(f"    {line}".rstrip() for line in tests.splitlines())
        obj.docstring.value = f"{text}Examples:\n{indented}"
