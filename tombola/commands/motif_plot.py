"""`tombola motif plot`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from tombola.commands.arguments import check_targets, flag, parse
from tombola.commands.motif_networks import Intervals, Named, Offset, Substeps, beware, named
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


def main(arguments: Sequence[str]) -> int:
    """Draw them and say where."""
    asked = parse(Plot, arguments, command="motif plot")
    if Path(asked.out).suffix not in _SUFFIXES:
        raise UsageError(f"--out is {asked.out!r}; expected a file that ends in {', '.join(_SUFFIXES)}.")
    if not 1 <= len(asked.motifs) <= _MOST:
        raise UsageError(f"{len(asked.motifs)} motifs are named; expected 1 to {_MOST} in a picture.")
    check_targets(asked.out)
    chosen = [
        named(motif, offset=asked.offset, intervals=asked.intervals, substeps=asked.substeps) for motif in asked.motifs
    ]
    from tombola.motifs.score import scored

    figure = _landscapes(chosen) if asked.landscape else _patterns(chosen)
    try:
        figure.savefig(asked.out, dpi=150)
    except OSError as error:
        raise StoreError(f"{asked.out} cannot be written: {error.strerror}; name a file elsewhere.") from error
    print(f"Picture: {asked.out}")
    for one in chosen:
        beware(one, scored(one.network, one.dynamics))
    return 0


def _patterns(chosen: Sequence[Named]) -> Figure:
    from tombola.motifs.drawing import Panel, drawn

    return drawn([Panel(title=one.title, network=one.network, dynamics=one.dynamics) for one in chosen])


def _landscapes(chosen: Sequence[Named]) -> Figure:
    from tombola.motifs.judge import Judge
    from tombola.motifs.landscape import landscape
    from tombola.motifs.landscape_drawing import landscapes

    return landscapes([(one.title, landscape(one.network, Judge(dynamics=one.dynamics))) for one in chosen])
