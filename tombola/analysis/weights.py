"""Tables from stored states and masks: where the survivors began, how far they went, what they connect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tombola.analysis.source import Absent, Source, nearest_levels
from tombola.answers import Pruned, Trained
from tombola.requests import MASKED
from tombola.store import Damaged

if TYPE_CHECKING:
    from torch import Tensor

    from tombola.masks import Mask
    from tombola.training.state import State

__all__ = ["HistogramRow", "InputRow", "initial_weights", "input_connections", "movement"]

BINS = 60
_LAYERS = 3  # shown of a network; more would not be legible


@dataclass(frozen=True, kw_only=True)
class HistogramRow:
    """One bin [low, high) of the values of one group of weights of one layer.

    `measure` is what is counted: "initial" (the weight before training), "distance" (absolute change from first to last
    step of the dense training) or "growth" (change of the absolute value). `group` is "all", "survivors" or "pruned" at
    `level`. `weights` is the count in the bin, `share` its fraction of the group; values outside all bins are left out.
    `total` is the size of the group, and `positive` how many of its values are above 0, whatever the bin.
    """

    measure: str
    layer: str
    group: str
    level: int
    density: float
    low: float
    high: float
    weights: int
    share: float
    total: int
    positive: int


@dataclass(frozen=True, kw_only=True)
class InputRow:
    """How many weights of the first layer an input unit (row and column of the image, channels together) still has."""

    level: int
    density: float
    row: int
    column: int
    connections: int
    possible: int


def initial_weights(source: Source, densities: Sequence[float] = (0.5, 0.2, 0.05)) -> list[HistogramRow]:
    """Initial weights of replicate 0: all of them, and those that survive to the levels nearest to `densities`."""
    start, _ = _dense_states(source)
    masks = _masks(source, nearest_levels(source.densities, densities))
    found: list[HistogramRow] = []
    for layer in _chosen_layers(next(iter(masks.values()))):
        values = start[layer].float()
        reach = float(values.abs().max()) or 1.0
        found += _histogram(values.flatten(), reach, "initial", layer, "all", 0, 1.0)
        for level, mask in masks.items():
            survivors = values[mask[layer]]
            found += _histogram(survivors, reach, "initial", layer, "survivors", level, source.densities[level])
    return found


def movement(source: Source, density: float = 0.2) -> list[HistogramRow]:
    """How far the weights of replicate 0 went in the dense training, and whether they grew: those that survive to the
    level nearest to `density`, and those that are pruned until then."""
    import torch

    start, end = _dense_states(source)
    masks = _masks(source, nearest_levels(source.densities, (density,)))
    found: list[HistogramRow] = []
    for level, mask in masks.items():
        for layer in _chosen_layers(mask):
            first, last, kept = start[layer].float(), end[layer].float(), mask[layer]
            for measure, values in (("distance", (last - first).abs()), ("growth", last.abs() - first.abs())):
                # A few far ones would squeeze all others into the middle bins.
                sample = values.abs().flatten()[:: max(1, values.numel() // 1_000_000)]
                reach = float(torch.quantile(sample, 0.999)) or 1.0
                for group, places in (("survivors", kept), ("pruned", ~kept)):
                    found += _histogram(values[places], reach, measure, layer, group, level, source.densities[level])
    return found


def input_connections(source: Source, densities: Sequence[float] = (0.5, 0.2, 0.07, 0.02)) -> list[InputRow]:
    """Weights that each input still has in the first layer, of replicate 0, at the levels nearest to `densities`."""
    masks = _masks(source, nearest_levels(source.densities, densities))
    channels, height, width = _image(source)
    found = []
    for level, mask in masks.items():
        first = mask[next(iter(mask))]
        if first.dim() != 2 or first.shape[1] != channels * height * width:
            raise Absent("the first layer is not connected to single pixels")
        counts = first.sum(0).view(channels, height, width).sum(0)
        found += [
            InputRow(
                level=level,
                density=source.densities[level],
                row=row,
                column=column,
                connections=int(counts[row, column]),
                possible=first.shape[0] * channels,
            )
            for row in range(height)
            for column in range(width)
        ]
    return found


def _image(source: Source) -> tuple[int, int, int]:
    """Channels, height and width of an input."""
    shape = source.known["input_shape"]
    if len(shape) not in (2, 3):
        raise Absent("the inputs are no images")
    channels, height, width = (1, *shape)[-3:]
    return channels, height, width


def _dense_states(source: Source) -> tuple[State, State]:
    """First and last state of the dense training of replicate 0."""
    for row, answer in source.trained("ticket"):
        if row["level"] == 0 and row["replicate"] == 0:
            if answer.diverged_at is not None:
                raise Absent("the dense training of replicate 0 diverged")
            try:
                return source.place.state(answer.states[answer.first]), source.place.state(answer.states[answer.last])
            except (KeyError, Damaged) as error:
                raise Absent("the store no longer holds the states of the dense training") from error
    raise Absent("the store has no dense training of replicate 0")


def _masks(source: Source, levels: Sequence[int]) -> dict[int, Mask]:
    """Level -> mask of the ticket of replicate 0."""
    found: dict[int, Mask] = {}
    for row in source.known["rows"]:
        if row["arm"] in MASKED and row["replicate"] == 0 and row["level"] in levels:
            answer = source.place.get(row["request"])
            if isinstance(answer, Trained | Pruned) and answer.mask is not None:
                found[row["level"]] = answer.mask
    if not found:
        raise Absent("the store holds no mask of a pruned level" if levels else "no level is pruned")
    return dict(sorted(found.items()))


def _chosen_layers(mask: Mapping[str, Tensor]) -> list[str]:
    """All prunable tensors of a small network, else the first, the largest of those between, and the last."""
    names = list(mask)
    if len(names) <= _LAYERS:
        return names
    largest = max(names[1:-1], key=lambda name: mask[name].numel())
    return [names[0], largest, names[-1]]


def _histogram(
    values: Tensor, reach: float, measure: str, layer: str, group: str, level: int, density: float
) -> list[HistogramRow]:
    import torch

    low = 0.0 if measure == "distance" else -reach
    counts = torch.histc(values, bins=BINS, min=low, max=reach).tolist() if values.numel() else [0.0] * BINS
    width, positive = (reach - low) / BINS, int((values > 0).sum())
    return [
        HistogramRow(
            measure=measure,
            layer=layer,
            group=group,
            level=level,
            density=density,
            low=low + number * width,
            high=low + (number + 1) * width,
            weights=int(count),
            share=count / max(1, values.numel()),
            total=values.numel(),
            positive=positive,
        )
        for number, count in enumerate(counts)
    ]
