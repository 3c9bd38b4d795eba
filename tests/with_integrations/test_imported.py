"""Models of Transformers by their import path, in an experiment as networks for images."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import ResNetConfig, ResNetForImageClassification, ViTConfig, ViTForImageClassification

import tombola
from tombola.models.imported import build_imported


def vit() -> ViTForImageClassification:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    return ViTForImageClassification(ViTConfig(**sizes, image_size=8, patch_size=4, num_channels=1, num_labels=10))


def resnet() -> ResNetForImageClassification:
    sizes = {"num_channels": 1, "embedding_size": 8, "hidden_sizes": [8, 8], "depths": [1, 1]}
    return ResNetForImageClassification(ResNetConfig(**sizes, layer_type="basic", num_labels=10))


@pytest.mark.parametrize("factory", [vit, resnet])
def test_an_experiment_on_a_model_of_theirs(factory: object, tmp_path: Path) -> None:
    small = {"data": "digits:train=120,test=40", "steps": 3, "eval_every": 3, "batch_size": 20, "levels": 1}
    found = tombola.run("digits-conv2", model=factory, **small, replicates=1, store=tmp_path, allocation="global")
    assert not found.failures and found.document["arms"]["ticket"][1]["density"] < 1


def test_what_is_built_keeps_its_names() -> None:
    model = build_imported("vit", vit, 0)
    assert list(model.state_dict()) == list(vit().state_dict())
    assert isinstance(model(torch.zeros(2, 1, 8, 8)), torch.Tensor)
