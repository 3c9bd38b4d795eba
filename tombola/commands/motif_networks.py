"""What the actions of `tombola motif` share: which network, under which dynamics."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tombola.commands.arguments import flag
from tombola.errors import UsageError, suggest
from tombola.motifs.dynamics import Dynamics
from tombola.motifs.network import GeneNetwork, read_network
from tombola.motifs.seeds import MOTIFS

if TYPE_CHECKING:
    from tombola.motifs.score import Scored

__all__ = ["Intervals", "MotifName", "Named", "Offset", "Substeps", "beware", "named"]

MotifName = Annotated[str, flag(f"{', '.join(MOTIFS)}, or a JSON file.", metavar="MOTIF")]
Offset = Annotated[
    float | None, flag("of the sigmoid.", metavar="FLOAT", default="(default: 5; 2 for Motif 8, which needs it)")
]
Intervals = Annotated[int, flag("between samples of the time, which is 90 units.", metavar="INT")]
Substeps = Annotated[int, flag("of the solver in an interval.", metavar="INT")]


@dataclass(frozen=True, kw_only=True, slots=True)
class Named:
    """A network with what it is called and how it moves."""

    name: str
    title: str
    network: GeneNetwork
    dynamics: Dynamics


def named(motif: str, *, offset: float | None, intervals: int, substeps: int) -> Named:
    """The motif of a name, or of a file.

    Raises:
        UsageError: an unknown name, a file that holds no network, or dynamics out of range.
    """
    found = MOTIFS.get(motif)
    if found is None and not Path(motif).suffix and not Path(motif).exists():
        raise UsageError(f"there is no motif {motif!r}. {suggest(motif, MOTIFS)} Or name a JSON file.")
    moves = replace(found.dynamics if found else Dynamics(), intervals=intervals, substeps=substeps)
    if offset is not None:
        moves = replace(moves, offset=offset)
    if found is not None:
        return Named(name=motif, title=found.title, network=found.network, dynamics=moves)
    return Named(name=motif, title=Path(motif).stem, network=read_network(Path(motif)), dynamics=moves)


def beware(one: Named, score: Scored) -> None:
    """Say why there is no pattern, and that the solver is too coarse, where that is so."""
    if score.silent:
        print(f"{one.title}: reward 0: {score.silent}.")
    if score.coarse:
        print(f"{one.title}: {score.coarse}.")
