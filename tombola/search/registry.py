"""The searches and controls by name, listed without importing torch."""

from __future__ import annotations

from tombola.registry import Entry

__all__ = ["CONTROLS", "SEARCHES"]

_FRANKLE = "Frankle and Carbin 2019, arXiv 1803.03635"
_MISSING = "Frankle et al. 2021, arXiv 2009.08576"
_SU = "Su et al. 2020, arXiv 2009.11094"

SEARCHES: dict[str, Entry] = {
    "imp": Entry(
        home="tombola.search.imp:imp",
        summary="iterative: train, prune, put the survivors back, again and again",
        source=f"{_FRANKLE}; Frankle et al. 2020, arXiv 1912.05671",
    ),
    "oneshot": Entry(
        home="tombola.search.oneshot:oneshot",
        summary="each level is cut from the one dense training",
        source=_FRANKLE,
    ),
    "gradual": Entry(
        home="tombola.search.gradual:gradual",
        summary="one training is pruned on its way; its mask is the ticket's (--schedule cubic:final=0.05,every=50)",
        source="Zhu and Gupta 2017, arXiv 1710.01878",
    ),
}
"""What `--search` takes: functions that make a search of a plan."""

CONTROLS: dict[str, Entry] = {
    "reinit": Entry(
        home="tombola.search.controls:reinit", summary="the ticket's mask on fresh initial weights", source=_FRANKLE
    ),
    "shuffled": Entry(
        home="tombola.search.controls:shuffle",
        summary="the ticket's start under a mask with as many survivors in each layer, at other places",
        source=_MISSING,
    ),
    "small-dense": Entry(
        home="tombola.search.controls:small_dense",
        summary="a dense network made narrower until it has no more weights than the ticket",
    ),
    "untrained": Entry(
        home="tombola.search.controls:untrained",
        summary="the mask on weights that were never trained: a supermask",
        source="Zhou et al. 2019, arXiv 1905.01067",
    ),
    "inverted": Entry(
        home="tombola.search.controls:other_cuts",
        summary="the ticket's start under the mask of inverted scores: the best weights go",
        source=_MISSING,
    ),
    "random-labels": Entry(
        home="tombola.search.controls:other_cuts",
        summary="the ticket's start under a mask that was scored with random labels",
        source=_SU,
    ),
    "random-inputs": Entry(
        home="tombola.search.controls:other_cuts",
        summary="the ticket's start under a mask that was scored with random pixels",
        source=_SU,
    ),
}
"""What `--controls` takes: trainings beside each ticket."""
