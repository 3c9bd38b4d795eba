"""The allocations by name, listed without importing torch."""

from __future__ import annotations

from tombola.registry import Entry

__all__ = ["ALLOCATIONS"]

_EVCI = "Evci et al. 2020, arXiv 1911.11134"
_FRANKLE = "Frankle and Carbin 2019, arXiv 1803.03635"
_GALE = "Gale et al. 2019, arXiv 1902.09574"
_MOCANU = "Mocanu et al. 2018, arXiv 1707.04780"

ALLOCATIONS: dict[str, Entry] = {
    "layerwise": Entry(
        home="tombola.allocation.layerwise:Layerwise",
        summary="each layer loses its rate at each level, convolutions their own (conv=0.1)",
        source=_FRANKLE,
    ),
    "global": Entry(
        home="tombola.allocation.threshold:globally", summary="one threshold over all layers", source=_FRANKLE
    ),
    "uniform": Entry(
        home="tombola.allocation.uniform:uniform", summary="the same density in every layer", source=_GALE
    ),
    "uniform-plus": Entry(
        home="tombola.allocation.uniform:UniformPlus",
        summary="uniform, but a first 2-D convolution stays whole and the last layer keeps a fifth or more",
        source=_GALE,
        aliases=("uniform+",),
    ),
    "er": Entry(
        home="tombola.allocation.erdos_renyi:erdos_renyi",
        summary="Erdos-Renyi: density in proportion to (inputs + outputs) / (inputs x outputs)",
        source=f"{_MOCANU}; {_EVCI}",
        aliases=("erdos-renyi",),
    ),
    "erk": Entry(
        home="tombola.allocation.erdos_renyi:erdos_renyi_kernel",
        summary="Erdos-Renyi with kernel sizes: density in proportion to sum / product of dimensions",
        source=_EVCI,
        aliases=("erdos-renyi-kernel",),
    ),
    "lamp": Entry(
        home="tombola.allocation.lamp:lamp",
        summary="one threshold over scores that each layer normalises: no layer empties",
        source="Lee et al. 2021, arXiv 2010.07611",
    ),
    "smart-ratio": Entry(
        home="tombola.allocation.smart_ratio:SmartRatio",
        summary="densities that fall quadratically with depth, a linear output layer at 0.3",
        source="Su et al. 2020, arXiv 2009.11094",
    ),
    "per-layer": Entry(
        home="tombola.allocation.per_layer:PerLayer",
        summary="the densities you name, in proportion: per-layer:*fc1*=0.1,*=0.5",
    ),
    "depth": Entry(
        home="tombola.allocation.depth:Depth",
        summary="one threshold over scores that are multiplied by a factor for each layer",
    ),
    "unit-budget": Entry(
        home="tombola.allocation.unit_budget:UnitBudget",
        summary="one threshold, but so many units of every layer keep a path from input to output",
    ),
}
"""What `--allocation` takes."""
