"""The seven motifs of the source as data. Needs neither torch nor numpy."""

from __future__ import annotations

from dataclasses import dataclass

from tombola.motifs.dynamics import Dynamics
from tombola.motifs.network import GeneNetwork

__all__ = ["MOTIFS", "Motif"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Motif:
    """A matrix of the source, and how we read it.

    The source prints the matrix alone, padded with zeros that are left out here. It does not print the morphogen
    inputs, nor whether a row or a column holds what acts on a gene: both are ours, chosen because the motif then makes
    a pattern.

    Args:
        title: as the source calls it.
        printed: the matrix as printed, row by row.
        transposed: whether column i, not row i, holds what acts on gene i.
        morphogen: found by search, gene by gene.
        offset: of the sigmoid.

    >>> MOTIFS["22"].printed[0], MOTIFS["22"].network.weights[0]
    ((100, -80, 5, 0), (100.0, 90.0, -80.0, 5.0))
    """

    title: str
    printed: tuple[tuple[int, ...], ...]
    transposed: bool
    morphogen: tuple[float, ...]
    offset: float = 5.0

    @property
    def network(self) -> GeneNetwork:
        """As the simulator reads it: row i is what acts on gene i."""
        as_printed = GeneNetwork(weights=self.printed, morphogen=self.morphogen)
        return as_printed.transposed() if self.transposed else as_printed

    @property
    def dynamics(self) -> Dynamics:
        """Those in which it makes its pattern."""
        return Dynamics(offset=self.offset)


MOTIFS: dict[str, Motif] = {
    "9": Motif(
        title="Motif 9",
        printed=(
            (96, 12, -55, -36, -30, -55, 0),
            (-91, 98, 38, 27, 10, 28, 5),
            (36, -33, -38, 38, 6, 30, -25),
            (-85, -35, 80, 96, 32, 0, 75),
            (-61, -55, -35, -25, -76, 0, 1),
            (-56, -6, 100, -1, 6, 31, 25),
            (-5, 26, -25, -5, -25, -6, -1),
        ),
        transposed=False,
        morphogen=(60, 17, 33, 35, -15, -16, 35),
    ),
    "22": Motif(
        title="Motif 22",
        printed=((100, -80, 5, 0), (90, 40, -60, 0), (-80, -25, 30, 0), (5, -25, -25, 0)),
        transposed=True,
        morphogen=(-36, 76, -85, 36),
    ),
    "1": Motif(
        title="Motif 1",
        printed=((90, -75, 30, 0), (100, 50, 0, 0), (-75, -30, 0, 0), (-5, -5, 0, 0)),
        transposed=True,
        morphogen=(25, 81, 32, -15),
    ),
    "2": Motif(
        title="Motif 2, four genes",
        printed=((85, -50, -60, 25), (100, -75, -30, 0), (30, -30, 60, -5), (0, -5, -30, -25)),
        transposed=True,
        morphogen=(-9, 56, 47, -45),
    ),
    "2b": Motif(title="Motif 2, two genes", printed=((85, -80), (10, 50)), transposed=False, morphogen=(31, 19)),
    "8": Motif(
        title="Motif 8",
        printed=(
            (100, 90, -50, -50, 30),
            (-90, -90, 30, 50, -25),
            (30, -5, 70, -10, 0),
            (-10, 80, -55, -5, 0),
            (25, 0, -25, 0, 0),
        ),
        transposed=False,
        morphogen=(27, 14, -21, 100, -12),
        offset=2.0,
    ),
    "4": Motif(
        title="Motif 4",
        printed=(
            (-80, -50, -25, -30, 80, 25, -25),
            (-100, 90, -90, -70, -25, -5, 0),
            (55, 90, 70, 55, 60, 25, 50),
            (75, 55, -30, 60, 75, 5, 0),
            (75, 5, 75, -30, 65, -30, -5),
            (-75, 5, -5, 5, 5, -25, -5),
            (-25, 25, 5, -50, 0, 25, 0),
        ),
        transposed=True,
        morphogen=(2, -75, -50, -14, 84, 7, 100),
    ),
}
"""Name -> motif. Under no input that we found does Motif 4 make stripes that last: those of this one fade away."""
