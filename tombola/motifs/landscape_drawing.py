"""A picture of the landscape around networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tombola.motifs.landscape import Landscape

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["landscapes"]

_INK = "#333333"
_SHARES = (("worse", "#8a3b12"), ("neutral", "#d9d9d9"), ("better", "#2f7d4f"))


def landscapes(named: Sequence[tuple[str, Landscape]]) -> Figure:
    """A figure with a row for each network: a cut through two weights, the knock-outs, and the neighbours.

    Args:
        named: titles with landscapes, one or more.
    """
    from matplotlib import style
    from matplotlib.figure import Figure

    with style.context("default"):
        figure = Figure(figsize=(13, 4.2 * len(named)), layout="constrained", facecolor="white")
        rows = figure.subplots(len(named), 3, squeeze=False, width_ratios=(1.2, 1.2, 1))
        for (title, found), (left, middle, right) in zip(named, rows, strict=True):
            _plane(figure, left, found, title)
            _without(figure, middle, found)
            _around(right, found)
    return figure


def _plane(figure: Figure, axes: Axes, found: Landscape, title: str) -> None:
    plane = found.plane
    (left, right), (low, high) = (
        (1.5 * values[0] - values[1] / 2, 1.5 * values[-1] - values[-2] / 2) for values in plane.values
    )
    image = axes.imshow(
        plane.rewards.T.numpy(), origin="lower", extent=(left, right, low, high), cmap="magma", vmin=0, aspect="auto"
    )
    weights = found.network.weights
    place = weights[plane.one[0]][plane.one[1]], weights[plane.other[0]][plane.other[1]]
    axes.plot(*place, marker="+", color="#3fd0ff", markersize=14, markeredgewidth=2.5)
    axes.set_xlabel(_named(plane.one), color=_INK)
    axes.set_ylabel(_named(plane.other), color=_INK)
    axes.set_title(f"{title}: reward {found.reward:.2f} (+)", color=_INK, fontsize=10.5, loc="left")
    figure.colorbar(image, ax=axes, label="reward", shrink=0.85)


def _named(edge: tuple[int, int]) -> str:
    return f"weight of gene {edge[1] + 1} on gene {edge[0] + 1}"


def _without(figure: Figure, axes: Axes, found: Landscape) -> None:
    genes = found.network.genes
    kept = [[float("nan")] * genes for _ in range(genes)]
    for (acted, acting), reward in found.without.items():
        kept[acted][acting] = reward
    image = axes.imshow(kept, cmap="magma", vmin=0, vmax=max(found.reward, *found.without.values()), aspect="equal")
    axes.set_facecolor("#ececec")
    ticks = range(genes)
    axes.set_xticks(ticks, [str(gene + 1) for gene in ticks])
    axes.set_yticks(ticks, [str(gene + 1) for gene in ticks])
    axes.set_xlabel("acting gene", color=_INK)
    axes.set_ylabel("gene acted on", color=_INK)
    axes.set_title("reward without this edge (grey: none there)", color=_INK, fontsize=10.5, loc="left")
    figure.colorbar(image, ax=axes, label="reward", shrink=0.85)


def _around(axes: Axes, found: Landscape) -> None:
    places = range(len(found.around))
    base = [0.0 for _ in found.around]
    for name, colour in _SHARES:
        shares = [{"worse": one.worse, "neutral": one.neutral, "better": one.better}[name] for one in found.around]
        axes.bar(places, shares, bottom=base, color=colour, label=name, width=0.7)
        base = [low + share for low, share in zip(base, shares, strict=True)]
    axes.set_xticks(places, [f"{one.step:g}" for one in found.around])
    axes.set_ylim(0, 1)
    axes.set_xlabel("step in one number", color=_INK)
    axes.set_ylabel("share of neighbours", color=_INK)
    slack = f"{100 * found.around[0].slack:g} %"
    axes.set_title(f"neutral: reward within {slack}", color=_INK, fontsize=10.5, loc="left")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, frameon=False, fontsize=9)
