"""`tombola motif plot`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from tombola.commands.arguments import JsonFile, check_targets, flag, parse, write_out
from tombola.commands.motif_networks import Intervals, Named, Offset, Substeps, beware, named
from tombola.commands.motif_progress import progress
from tombola.errors import StoreError, UsageError
from tombola.motifs.seeds import MOTIFS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Plot", "main"]

_SUFFIXES = (".png", ".svg", ".pdf")
_MOST = 8


@dataclass(frozen=True, kw_only=True)
class Plot:
    """Draw motifs below each other: the pattern of gene 1 in time, and who acts on whom."""

    motifs: tyro.conf.Positional[
        Annotated[
            tuple[str, ...], flag(f"{', '.join(MOTIFS)}, or JSON files; up to {_MOST}.", metavar="MOTIF", default="")
        ]
    ]
    out: Annotated[str, flag("the picture: .png, .svg or .pdf.", metavar="FILE", default="")] = ""
    landscape: Annotated[
        bool, flag("draw the reward around each motif: a cut through two weights, knock-outs, neighbours.", default="")
    ] = False
    offset: Offset = None
    intervals: Intervals = 199
    substeps: Substeps = 2
    json: JsonFile = ""
    quiet: Annotated[bool, flag("print no progress.", default="")] = False


def main(arguments: Sequence[str]) -> int:
    """Draw them and say where."""
    asked = parse(Plot, arguments, command="motif plot")
    if Path(asked.out).suffix not in _SUFFIXES:
        raise UsageError(f"--out is {asked.out!r}; expected a file that ends in {', '.join(_SUFFIXES)}.")
    if not 1 <= len(asked.motifs) <= _MOST:
        raise UsageError(f"{len(asked.motifs)} motifs are named; expected 1 to {_MOST} in a picture.")
    check_targets(asked.out, asked.json)
    chosen = [
        named(motif, offset=asked.offset, intervals=asked.intervals, substeps=asked.substeps) for motif in asked.motifs
    ]
    from tombola.motifs.score import scored

    figure = _landscapes(chosen, asked.quiet) if asked.landscape else _patterns(chosen)
    try:
        figure.savefig(asked.out, dpi=150)
    except OSError as error:
        raise StoreError(f"{asked.out} cannot be written: {error.strerror}; name a file elsewhere.") from error
    scores = [(one, scored(one.network, one.dynamics)) for one in chosen]
    if asked.json != "-":
        print(f"Picture: {asked.out}")
        for one, score in scores:
            beware(one, score)
    shown = [{"name": one.name, "title": one.title, **score.document()} for one, score in scores]
    write_out(asked.json, {"schema": 1, "picture": asked.out, "landscape": asked.landscape, "motifs": shown})
    return 0


def _patterns(chosen: Sequence[Named]) -> Figure:
    from tombola.motifs.drawing import Panel, drawn

    return drawn([Panel(title=one.title, network=one.network, dynamics=one.dynamics) for one in chosen])


def _landscapes(chosen: Sequence[Named], quiet: bool) -> Figure:
    from tombola.motifs.judge import Judge
    from tombola.motifs.landscape import landscape
    from tombola.motifs.landscape_drawing import landscapes

    found = []
    for one in chosen:
        with progress(quiet, f"networks around {one.title}") as watch:
            found.append((one.title, landscape(one.network, Judge(dynamics=one.dynamics), watch=watch)))
    return landscapes(found)
