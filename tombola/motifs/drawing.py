"""Pictures of motifs: the pattern of the output gene in time (kymograph), and the circle of genes with their edges."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tombola.motifs.dynamics import Dynamics
from tombola.motifs.network import BOUND, GeneNetwork, upstream
from tombola.motifs.reward import plain, read, strict
from tombola.motifs.simulation import simulate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor

__all__ = ["ACTIVATION", "REPRESSION", "Panel", "card", "drawn"]

ACTIVATION, REPRESSION = "#c8372d", "#2b62b5"
_INK, _FAINT = "#333333", "#b5b5b5"
_WIDEST = 4.5  # points, of an edge of weight 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """A network in a picture."""

    title: str
    network: GeneNetwork
    dynamics: Dynamics


def drawn(panels: Sequence[Panel]) -> Figure:
    """A figure with a row for each network: its kymograph beside its circle graph.

    Activation is red, repression blue and ends in a bar; the width of an edge is its |weight|. Genes without a path to
    the output are faint; a ring around a gene is the morphogen's action on it.
    """
    from matplotlib import style
    from matplotlib.figure import Figure

    with style.context("default"):
        figure = Figure(figsize=(9.6, 4.1 * len(panels)), layout="constrained", facecolor="white")
        rows = figure.subplots(len(panels), 2, squeeze=False, width_ratios=(1.25, 1))
        for panel, (left, right) in zip(panels, rows, strict=True):
            output = panel.dynamics.output
            traces = simulate([panel.network], panel.dynamics, genes=(output,))[:, 0]
            found = read(traces)
            rewards = f"reward {plain(found).item():.2f}, strict {strict(found).item():.2f}"
            _kymograph(figure, left, traces[0], panel.dynamics, f"{panel.title}: {rewards}")
            _circle(right, panel.network, output, f"{len(panel.network.edges)} edges")
    return figure


def card(network: GeneNetwork, dynamics: Dynamics) -> Figure:
    """A small figure without words: the kymograph beside the circle graph."""
    from matplotlib import style
    from matplotlib.figure import Figure

    with style.context("default"):
        figure = Figure(figsize=(4.6, 2.2), layout="constrained", facecolor="white")
        left, right = figure.subplots(1, 2)
        trace = simulate([network], dynamics, genes=(dynamics.output,))[0, 0]
        left.imshow(trace.numpy(), origin="lower", aspect="auto", cmap="viridis", vmin=0, vmax=1, interpolation="none")
        left.set_xticks([])
        left.set_yticks([])
        _circle(right, network, dynamics.output, None)
    return figure


def _kymograph(figure: Figure, axes: Axes, trace: Tensor, dynamics: Dynamics, title: str) -> None:
    """Cells across, time upwards."""
    extent = (0, dynamics.cells, 0, dynamics.duration)
    image = axes.imshow(
        trace.numpy(), origin="lower", aspect="auto", extent=extent, cmap="viridis", vmin=0, vmax=1, rasterized=True
    )
    axes.set_xlabel("cell", color=_INK)
    axes.set_ylabel("time", color=_INK)
    axes.set_title(title, color=_INK, fontsize=10.5, loc="left")
    figure.colorbar(image, ax=axes, label=f"gene {dynamics.output + 1}", shrink=0.9)


def _circle(axes: Axes, network: GeneNetwork, output: int, title: str | None) -> None:
    """Genes on a circle and their edges; None: without words."""
    from matplotlib.patches import Circle

    alive = upstream(network, output)
    places = [
        (math.sin(2 * math.pi * gene / network.genes), math.cos(2 * math.pi * gene / network.genes))
        for gene in range(network.genes)
    ]
    if network.genes == 1:
        places = [(0.0, 0.0)]
    disc = _disc(network.genes)
    small = 1.0 if title is not None else 0.6  # rings of a card, which is small
    for acted, acting in network.edges:
        weight = network.weights[acted][acting]
        faint = acted not in alive
        if acted == acting:
            _loop(axes, places[acted], disc, weight, faint)
        else:
            _edge(axes, places[acting], places[acted], disc, weight, faint)
    for gene, (x, y) in enumerate(places):
        input_ = network.morphogen[gene]
        ring = ACTIVATION if input_ > 0 else REPRESSION if input_ < 0 else _FAINT
        edge = (0.8 + _WIDEST * abs(input_) / BOUND) * small * disc / _disc(7)
        face = "#ffe9a8" if gene == output else "white"
        axes.add_patch(Circle((x, y), disc, facecolor=face, edgecolor=ring, linewidth=edge, zorder=3))
        colour = _INK if gene in alive else _FAINT
        axes.text(x, y, str(gene + 1), ha="center", va="center", color=colour, fontsize=11 * disc / _disc(7), zorder=4)
    axes.set_xlim(-1.65, 1.65)
    axes.set_ylim(-1.65, 1.65)
    axes.set_aspect("equal")
    axes.axis("off")
    if title is None:
        return
    axes.set_title(title, color=_INK, fontsize=10.5, loc="left")
    axes.text(
        0.5,
        -0.02,
        "red activates, blue represses; ring: the morphogen; yellow: read",
        transform=axes.transAxes,
        ha="center",
        va="top",
        color=_INK,
        fontsize=8,
    )


def _disc(genes: int) -> float:
    """Radius of a gene where the circle has 1: neighbours, and their loops, keep apart."""
    return min(0.17, 0.55 * math.sin(math.pi / genes)) if genes > 1 else 0.17


def _look(weight: float, faint: bool) -> tuple[str, float]:
    colour = ACTIVATION if weight > 0 else REPRESSION
    return (_FAINT if faint else colour), 0.4 + (_WIDEST - 0.4) * abs(weight) / BOUND


def _edge(
    axes: Axes, begin: tuple[float, float], end: tuple[float, float], disc: float, weight: float, faint: bool
) -> None:
    """A bent arrow from disc to disc, so that the two directions between a pair lie beside each other."""
    from matplotlib.patches import FancyArrowPatch

    colour, width = _look(weight, faint)
    span = math.dist(begin, end)
    bend = 0.16
    turn = math.atan2(end[1] - begin[1], end[0] - begin[0])
    # the arc leaves and arrives at an angle of about 2 * bend to the straight line, to its right
    start = (begin[0] + disc * math.cos(turn - 2 * bend), begin[1] + disc * math.sin(turn - 2 * bend))
    gap = min(disc + 0.05, span / 2)
    stop = (end[0] - gap * math.cos(turn + 2 * bend), end[1] - gap * math.sin(turn + 2 * bend))
    style = (
        f"-|>,head_length={3 + width:.2f},head_width={1.2 + width / 2:.2f}"
        if weight > 0
        else f"|-|,widthA=0,widthB={2.5 + width / 2:.2f}"
    )
    axes.add_patch(
        FancyArrowPatch(
            start,
            stop,
            connectionstyle=f"arc3,rad={bend}",
            arrowstyle=style,
            color=colour,
            linewidth=width,
            shrinkA=0,
            shrinkB=0,
            zorder=1,
            alpha=0.85,
        )
    )


def _loop(axes: Axes, place: tuple[float, float], disc: float, weight: float, faint: bool) -> None:
    """A circle outside the disc, with an arrow head or a bar where it comes back."""
    from matplotlib.patches import Arc

    colour, width = _look(weight, faint)
    outward = math.atan2(place[1], place[0]) if place != (0.0, 0.0) else math.pi / 2
    radius = disc
    centre = (
        place[0] + (disc + radius * 0.8) * math.cos(outward),
        place[1] + (disc + radius * 0.8) * math.sin(outward),
    )
    inward = math.degrees(outward) + 180
    first, last = inward + 52, inward - 52 + 360
    axes.add_patch(
        Arc(centre, 2 * radius, 2 * radius, theta1=first, theta2=last, color=colour, linewidth=width, zorder=1)
    )
    end = math.radians(last)
    tip = (centre[0] + radius * math.cos(end), centre[1] + radius * math.sin(end))
    along = (-math.sin(end), math.cos(end))  # the way the arc goes when it ends
    if weight > 0:
        axes.annotate(
            "",
            xy=(tip[0] + 0.05 * along[0], tip[1] + 0.05 * along[1]),
            xytext=(tip[0] - 0.02 * along[0], tip[1] - 0.02 * along[1]),
            arrowprops={
                "arrowstyle": f"-|>,head_length={0.3 + 0.05 * width:.2f},head_width={0.12 + 0.04 * width:.2f}",
                "color": colour,
                "linewidth": width,
                "shrinkA": 0,
                "shrinkB": 0,
            },
            zorder=2,
        )
    else:
        half = 0.04 + 0.008 * width
        across = (math.cos(end), math.sin(end))
        axes.plot(
            [tip[0] - half * across[0], tip[0] + half * across[0]],
            [tip[1] - half * across[1], tip[1] + half * across[1]],
            color=colour,
            linewidth=max(width, 1.2),
            zorder=2,
        )
