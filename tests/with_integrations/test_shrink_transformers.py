"""Shrinking models of the Transformers library: what is between attentions gets smaller, the outputs stay."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from shrink_nets import masked_by_hand, random_mask
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
)

from tombola import shrink
from tombola.shrinking.tracing import tensors_in

IDS = torch.arange(14).view(2, 7) * 3 % 50


def bert(kind: Any) -> nn.Module:
    return kind(
        BertConfig(
            vocab_size=50,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            num_labels=3,
        )
    )


def gpt2(kind: Any) -> nn.Module:
    config = GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=16, bos_token_id=0, eos_token_id=0)
    config.pad_token_id = 0
    return kind(config)


@pytest.mark.parametrize(
    ("make", "kind", "inner"),
    [
        (bert, BertForSequenceClassification, "bert.encoder.layer.1.intermediate.dense"),
        (bert, BertForMaskedLM, "bert.encoder.layer.0.intermediate.dense"),
        (gpt2, GPT2LMHeadModel, "transformer.h.1.mlp.c_fc"),
        (gpt2, GPT2ForSequenceClassification, "transformer.h.0.mlp.c_fc"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_the_wide_layers_get_narrower(make: Any, kind: Any, inner: str, dtype: torch.dtype) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make(kind).to(dtype).eval()
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                nn.init.normal_(parameter)
    mask = random_mask(model, 0.05, 0)
    arguments = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}
    small = shrink(model, mask, arguments, strict=True)
    assert type(small.model) is kind
    assert len(small.gone[f"{inner}.weight"]) > 20
    assert set(small.gone[f"{inner}.weight"].values()) == {"constant", "no outputs"}
    named = [name for name in mask if "attn" in name or "self" in name or "attention" in name]
    assert len(named) >= 4 and set(named) <= set(small.whole)
    masked = masked_by_hand(model, mask)
    for ids in (IDS, IDS.flip(1), IDS[:1, :5]):
        one, two = (outputs(each, ids) for each in (masked, small.model))
        assert len(one) == len(two) >= 1
        for mine, theirs in zip(one, two, strict=True):
            error = float((mine - theirs).abs().max()) / (1 + float(mine.abs().max()))
            assert error <= (1e-12 if dtype == torch.float64 else 1e-5)


@torch.no_grad()
def outputs(model: nn.Module, ids: Tensor) -> list[Tensor]:
    """Logits and caches."""
    return tensors_in(model(input_ids=ids, attention_mask=torch.ones_like(ids)))
