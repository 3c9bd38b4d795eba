"""Figures as SVG that stands inside an HTML page and takes the page's colours and letters."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

from tombola.report.drawing import INK

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["STABLE", "inline_svg"]

STABLE: dict[Any, Any] = {"svg.fonttype": "none", "svg.image_inline": True}
"""Settings of matplotlib under which text stays text and pictures stay inside their file."""

_ELEMENT = re.compile(r"<svg\b[^>]*?viewBox=\"([^\"]*)\"[^>]*>")
_NAMED = re.compile(r'(\bid="|href="#|url\(#)')
_FONT = re.compile(r"'DejaVu Sans'(?:, [^;\"]*)?(?=[;\"])")
_DIGITS = re.compile(r"(?<=\d\.\d\d)\d+(?![\d.]*[eE%])")
_DRAWN = re.compile(r'(?<= d=")[^"]*(?=")|(?<= points=")[^"]*(?=")')


def inline_svg(figure: Figure, name: str, label: str) -> str:
    """A figure as one `<svg>` element: text stays text, ink becomes `currentColor`, every id starts with `name`.

    `name` (letters and digits) keeps the ids of several figures on a page apart; `label` is read aloud in place of
    the picture. The same figure gives the same text, without a date or an address.
    """
    import matplotlib
    from markupsafe import escape

    text = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context({**STABLE, "svg.hashsalt": name}):
        figure.savefig(text, format="svg", dpi=150, metadata=nothing, facecolor="none")
    drawing = text.getvalue()
    drawing = drawing[drawing.index("<svg") :].strip()
    drawing = _DRAWN.sub(lambda found: _DIGITS.sub("", found[0]), drawing)  # a hundredth of a point is enough
    head = f'role="img" aria-label="{escape(label)}"'
    drawing = _ELEMENT.sub(lambda found: f'<svg viewBox="{found[1]}" {head}>', drawing, count=1)
    drawing = _NAMED.sub(rf"\g<1>{name}-", drawing)
    drawing = _FONT.sub("system-ui, sans-serif", drawing)
    return drawing.replace(INK, "currentColor")
