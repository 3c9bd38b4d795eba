"""`tombola motif score`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from tombola.commands.arguments import JsonFile, check_targets, flag, parse, write_out
from tombola.commands.motif_networks import Intervals, Offset, Substeps, beware, named
from tombola.commands.ticket_inspect import columns
from tombola.motifs.seeds import MOTIFS

if TYPE_CHECKING:
    from tombola.motifs.score import Scored

__all__ = ["Score", "main"]

_HEAD = ("motif", "genes", "edges", "plain", "strict", "boundaries", "still", "contrast", "spread", "half step")


@dataclass(frozen=True, kw_only=True)
class Score:
    """Simulate motifs and say what their patterns are worth."""

    motifs: tyro.conf.Positional[
        Annotated[
            tuple[str, ...],
            flag(f"{', '.join(MOTIFS)}, or JSON files.", metavar="MOTIF", default="(default: all seven)"),
        ]
    ] = ()
    offset: Offset = None
    intervals: Intervals = 199
    substeps: Substeps = 2
    json: JsonFile = ""


def main(arguments: Sequence[str]) -> int:
    """Print the table, and below it what to beware of."""
    asked = parse(Score, arguments, command="motif score")
    check_targets(asked.json)
    chosen = [
        named(motif, offset=asked.offset, intervals=asked.intervals, substeps=asked.substeps)
        for motif in asked.motifs or MOTIFS
    ]
    from tombola.motifs.score import scored

    found = [scored(one.network, one.dynamics) for one in chosen]
    if asked.json != "-":
        rows = [(one.title, str(one.network.genes), *_row(score)) for one, score in zip(chosen, found, strict=True)]
        print(columns([_HEAD, *rows], left=1))
        print(
            "plain: the source's reward; strict: ours, for stripes that last. Boundaries of gene 1 at three times;\n"
            "still: share of the second half; contrast and spread (of the stripes' lengths) at the end;\n"
            "half step: by how much traces change at half the solver's step."
        )
        for one, score in zip(chosen, found, strict=True):
            beware(one, score)
    write_out(
        asked.json,
        {
            "schema": 1,
            "motifs": [
                {
                    "name": one.name,
                    "title": one.title,
                    **one.network.document(),
                    "dynamics": asdict(one.dynamics),
                    **score.document(),
                }
                for one, score in zip(chosen, found, strict=True)
            ],
        },
    )
    return 0


def _row(score: Scored) -> tuple[str, ...]:
    spread = "-" if score.regularity is None else f"{score.regularity:.3f}"
    error = "diverges" if score.step_error is None else f"{score.step_error:.4f}"
    return (
        str(score.edges),
        f"{score.plain:.3f}",
        f"{score.strict:.3f}",
        " ".join(map(str, score.boundaries)),
        f"{score.stability:.4f}",
        f"{score.contrast:.3f}",
        spread,
        error,
    )
