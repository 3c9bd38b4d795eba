"""One experiment as one HTML page that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from itertools import groupby
from typing import TYPE_CHECKING, Any

from tombola.analysis.source import Source
from tombola.report.columns import COLUMNS, diverged, headline, unbroken
from tombola.report.gallery import Shown, gallery
from tombola.report.judged import JUDGED
from tombola.report.summary import table
from tombola.report.svg import inline_svg

if TYPE_CHECKING:
    from markupsafe import Markup

__all__ = ["page", "rendered"]


def page(source: Source, *, details: Mapping[str, object], verdict: Mapping[str, Any] | None = None) -> str:
    """The text of the page: verdict, figures, tables, details. Equal input gives equal text.

    Args:
        source: the results document, and the stored experiment behind it where there is one.
        details: what the document does not hold, nested as deep as needed: recipe, versions, hardware, seeds, command.
        verdict: as `analysis.verdict` gives it; without it the plain facts of the sparsest level come first.

    Raises:
        UsageError: the document cannot be read.
    """
    rows = table(source.document)
    shown, left_out = gallery(source)
    facts = headline(rows)
    return rendered(
        (files("tombola.report") / "page.html").read_text(encoding="utf-8"),
        recipe=source.document.get("recipe", ""),
        experiment=source.document.get("experiment", ""),
        headline=unbroken(verdict["overall"]["sentence"]) if verdict else facts,
        facts=facts if verdict else "",
        notes=verdict.get("notes", ()) if verdict else (),
        judged=JUDGED,
        verdicts=verdict["levels"] if verdict else [],
        figures=[{"name": one.name, "svg": _svg(one), **vars(one.caption)} for one in shown],
        left_out=left_out if rows else {},
        columns=COLUMNS,
        levels=[list(group) for _, group in groupby(rows, key=lambda row: row.level)],
        diverged=diverged,
        details=details,
    )


def rendered(template: str, **content: Any) -> str:
    """A template filled in: everything escaped, nothing undefined, `style` the look of all pages, light and dark."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.tests["many"] = lambda value: isinstance(value, Sequence) and not isinstance(value, str)
    environment.filters["unbroken"] = unbroken
    style = (files("tombola.report") / "page.css").read_text(encoding="utf-8")
    return environment.from_string(template).render(style=Markup(style), **content)


def _svg(shown: Shown) -> Markup:
    from markupsafe import Markup

    return Markup(inline_svg(shown.draw(shown.rows), shown.name.replace("-", ""), shown.caption.title))
