"""Which weights lie on a path from an input to an output, from one forward and backward pass; without data."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tombola.criteria.base import Probe
from tombola.criteria.looking import scoring
from tombola.criteria.synflow import flow
from tombola.errors import UsageError
from tombola.masks import Mask

__all__ = ["on_path"]


def on_path(model: nn.Module, mask: Mask, example: Tensor) -> Mask | None:
    """The weights of `mask` that lie on some path of kept weights from an input to an output; None: not to be told.

    With every kept weight at 1 / fan-in, and the network made positive and linear (`tombola.criteria.synflow`), a
    weight has a path exactly where something flows through it. Biases start no path.

    Args:
        example: inputs as the network takes them; their shape is looked at, not their values.

    Returns:
        A mask within `mask`; None where the network is no composition of what is followed (a dense one too has weights
        through which nothing flows), or a float64 cannot hold what flows.

    Source: effective sparsity, Vysogorets and Kempe (2023, arXiv 2107.02306). `tombola.shrinking.effective` follows
    channels through more kinds of networks, and says what it does not know; it takes a second where this takes
    milliseconds.

    >>> net = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1))
    >>> mask = Mask({"0.weight": torch.ones(2, 3) > 0, "2.weight": torch.tensor([[True, False]])})
    >>> on_path(net, mask, torch.ones(1, 3)).kept  # nobody reads the second unit
    {'0.weight': 3, '2.weight': 1}
    """
    dense = Mask({name: torch.ones(shape, dtype=torch.bool) for name, shape in mask.shapes.items()})
    with scoring(model, dense, Probe()) as copied:
        copied.double()
        places = {name: mask[name] for name in mask}
        whole = _flowing(copied, {name: torch.ones_like(kept) for name, kept in places.items()}, example)
        if whole is None or not all(bool(flows.all()) for flows in whole.values()):
            return None
        found = _flowing(copied, places, example)
    # What flows through the dense network and not at all through this one has no path left.
    return Mask({name: kept & found[name] if found else torch.zeros_like(kept) for name, kept in places.items()})


def _flowing(model: nn.Module, places: dict[str, Tensor], example: Tensor) -> dict[str, Tensor] | None:
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name in places:
                weight.copy_(places[name] / max(1, weight[0].numel()))
            elif weight.is_floating_point():
                weight.fill_(0.0 if "bias" in name.rpartition(".")[2] else 1.0)
    weights = {name: weight for name, weight in model.named_parameters() if name in places}
    ones = torch.ones_like(example[:1], dtype=torch.float64 if example.is_floating_point() else example.dtype)
    try:
        return {name: (score > 0).cpu() for name, score in flow(model, weights, ones, "").items()}
    except UsageError:
        return None
