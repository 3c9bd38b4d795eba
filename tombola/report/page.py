"""One experiment as one HTML file that needs nothing beside it."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Mapping, Sequence
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Any

from tombola.errors import UsageError
from tombola.report.columns import COLUMNS, diverged, headline
from tombola.report.figures import accuracy_versus_density, early_stop_versus_density
from tombola.report.summary import LevelRow, has_accuracy, table
from tombola.report.svg import inline_svg

__all__ = ["page", "write_page"]

_READING = "Points are means over the replicates, bands their 95 % intervals, the dashed line is the dense network."
_ACCURACY = (
    "What to see: whether the ticket stays at the dashed line while weights go, and how far its controls fall below it."
)
_LOSS = (
    "What to see: whether the ticket stays at the dashed line while weights go, and how far its controls rise above it."
)
_PAPER_ACCURACY = (
    "Frankle and Carbin (2019), a fully connected LeNet on MNIST: tickets were more accurate than the dense network, "
    "by 0.3 percentage points at 13.5 % of the weights, and back at its accuracy at 3.6 %; randomly re-initialised, "
    "the same networks fell below the dense one from 21.1 % on."
)
_PAPER_EARLY_STOP = (
    "What to see: a ticket that learns faster than the dense network lies below the dashed line. The early-stop step "
    "is the step of lowest validation loss. Frankle and Carbin (2019), a fully connected LeNet on MNIST: tickets "
    "stopped 38 % earlier than the dense network at 21.1 % of the weights and as late as it at 3.6 %; randomly "
    "re-initialised networks stopped later and later as weights went."
)


def write_page(document: Mapping[str, Any], path: str | os.PathLike[str], *, details: Mapping[str, object]) -> Path:
    """Write the page of a results document as one HTML file, with `details` at its end, and return its path.

    `details` is a mapping, nested as deep as needed, of what the document does not hold: the recipe as text,
    versions, hardware, seeds, the command that reproduces. The file appears whole or not at all.
    Raises `UsageError` for a document that cannot be read or a path that cannot be written.
    """
    target = Path(path)
    text = page(document, details=details)
    temporary = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8", newline="\n")
        temporary.replace(target)
    except OSError as error:
        raise UsageError(f"cannot write the page {target}: {error.strerror}; choose another path") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return target


def page(document: Mapping[str, Any], *, details: Mapping[str, object]) -> str:
    """The text of the page: headline, two figures, the full table, details. Equal input gives equal text."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.tests["many"] = lambda value: isinstance(value, Sequence) and not isinstance(value, str)
    template = environment.from_string((files("tombola.report") / "page.html").read_text(encoding="utf-8"))
    rows = table(document)
    return template.render(
        recipe=document.get("recipe", ""),
        experiment=document.get("experiment", ""),
        headline=headline(rows),
        figures=_figures(rows) if rows else [],
        columns=COLUMNS,
        levels=[list(group) for _, group in groupby(rows, key=lambda row: row.level)],
        diverged=diverged,
        details=details,
    )


def _figures(rows: Sequence[LevelRow]) -> list[dict[str, object]]:
    from markupsafe import Markup

    by_accuracy = has_accuracy(rows)
    measure = "Test accuracy" if by_accuracy else "Lowest validation loss"
    reading = f"{_ACCURACY} {_PAPER_ACCURACY}" if by_accuracy else _LOSS
    plans = (
        ("accuracy", f"{measure} over weights remaining", accuracy_versus_density, reading),
        ("earlystop", "Early stop over weights remaining", early_stop_versus_density, _PAPER_EARLY_STOP),
    )
    return [
        {
            "title": title,
            "svg": Markup(inline_svg(draw(rows), name, title)),
            "caption": f"{_READING} {caption}".replace(" %", "\u00a0%"),
        }
        for name, title, draw, caption in plans
    ]
