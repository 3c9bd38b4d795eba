"""`torch.compile` with its own compiler, once: the masks hold in code that it has made."""

from __future__ import annotations

import pytest
import torch
from own_loops import MODULES, adamw_clipped, batches_for, built
from torch import nn

from tombola import find_ticket
from tombola.training.state import state_of


@pytest.mark.filterwarnings("ignore")
def test_a_network_compiled_by_inductor() -> None:
    """Its rounding is its own, so that it is compared with the plain network to a tolerance."""
    kind = MODULES["mlp"]
    batches, clean = batches_for(kind), list[bool]()

    def train(model: nn.Module) -> None:
        def watch(*_: object) -> None:
            clean.append(all(not bool(p.isnan().any()) for p in model.parameters()))

        adamw_clipped(model, batches, [], watch)

    model = built(kind)
    ticket = find_ticket(torch.compile(model), train, levels=1, rate=0.4)
    plain = find_ticket(built(kind), train, levels=1, rate=0.4)
    assert ticket.mask == plain.mask and all(clean) and ticket.trained is not None
    for name, value in state_of(model).items():
        torch.testing.assert_close(value, (plain.trained or {})[name], rtol=1e-4, atol=1e-5)
        if name in ticket.mask:
            assert not bool(value[~ticket.mask[name]].any())
