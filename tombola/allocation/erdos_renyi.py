"""Erdos-Renyi allocations: small layers are denser, as in a random graph with so many edges a node."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from tombola.allocation.sharing import proportional
from tombola.masks import Mask

__all__ = ["erdos_renyi", "erdos_renyi_kernel"]


def erdos_renyi(scores: Mapping[str, Tensor], mask: Mask, keep: int) -> dict[str, int]:
    """Density e (inputs + outputs) / (inputs x outputs) in each layer; where that exceeds 1, the layer is dense.

    The e for which the counts add up to `keep` is solved for again over the others, whenever one is dense (or whole, as
    far as it is left). A convolution counts its channels alone: every position of its kernel has the same density.

    Mocanu et al. (2018, arXiv 1707.04780), there e is chosen (20) and the places are drawn one by one; Evci et al.
    (2020, arXiv 1911.11134). There each layer's number is rounded by itself; here the total is exact.

    >>> import torch
    >>> shapes = {"fc1": (300, 784), "fc2": (100, 300), "output": (10, 100)}
    >>> mask = Mask({name: torch.ones(shape, dtype=torch.bool) for name, shape in shapes.items()})
    >>> erdos_renyi({}, mask, 26620)  # e = 17.26: 7.96 %, 23.02 %, 100 %
    {'fc1': 18714, 'fc2': 6906, 'output': 1000}
    """
    return proportional({n: sum(s[:2]) * math.prod(s[2:]) for n, s in mask.shapes.items()}, mask.kept, keep)


def erdos_renyi_kernel(scores: Mapping[str, Tensor], mask: Mask, keep: int) -> dict[str, int]:
    """As `erdos_renyi`, with the sizes of kernels: density e (sum of all dimensions) / (their product).

    Evci et al. (2020, arXiv 1911.11134): convolutions with many channels become sparser, the smallest stay dense.

    >>> import torch
    >>> mask = Mask({"conv": torch.ones(4, 4, 3, 3, dtype=torch.bool), "fc": torch.ones(30, 40, dtype=torch.bool)})
    >>> erdos_renyi_kernel({}, mask, 84), erdos_renyi({}, mask, 142)
    ({'conv': 14, 'fc': 70}, {'conv': 72, 'fc': 70})
    """
    return proportional({n: sum(s) for n, s in mask.shapes.items()}, mask.kept, keep)
