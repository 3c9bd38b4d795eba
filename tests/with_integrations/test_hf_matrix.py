"""BERT and GPT-2 from tiny configurations in the matrix of modules and loops (`own_loops`)."""

from __future__ import annotations

import pytest
import torch
from own_loops import LOOPS, Kind, check_cell, words
from test_trainers import bert, gpt2
from torch import Tensor, nn
from transformers import GPT2Model


class Outer(nn.Module):
    """Scores of three classes from what a Transformers module returns."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        found = self.inner(x)
        if isinstance(self.inner, GPT2Model):
            return found.last_hidden_state[:, -1, :3]
        return found.logits.flatten(1)[:, :3] if found.logits.ndim > 2 else found.logits


def with_three_labels() -> nn.Module:
    model = bert()
    model.classifier = nn.Linear(16, 3)
    return Outer(model)


KINDS = {
    "bert": Kind(build=with_three_labels, inputs=words),
    "gpt-2": Kind(build=lambda: Outer(gpt2().transformer), inputs=words),
    "gpt-2 with a tied head": Kind(build=lambda: Outer(gpt2()), inputs=words),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_ticket_is_trained_as_the_reference(kind: str, loop: str) -> None:
    torch.manual_seed(0)
    check_cell(KINDS[kind], LOOPS[loop])
