"""Scopes: which tensors of a module may be pruned."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from tombola.errors import UsageError
from tombola.masks import Mask
from tombola.scopes import Scope, prunable


class Conv1D(nn.Module):
    """As in Transformers: a Linear with its weight turned round."""

    def __init__(self, outputs: int, inputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))


class Everything(nn.Module):
    """Modules that have nothing to prune, around one that has."""

    def __init__(self) -> None:
        super().__init__()
        self.free = nn.Parameter(torch.zeros(3, 3))
        self.embed = nn.Embedding(10, 4)
        self.bag = nn.EmbeddingBag(10, 4)
        self.norms = nn.ModuleList(
            [nn.LayerNorm((4, 4)), nn.BatchNorm2d(3), nn.GroupNorm(2, 4), nn.InstanceNorm1d(4, affine=True)]
        )
        self.act = nn.PReLU(4)
        self.only = nn.Linear(4, 4)


def names(model: nn.Module, *protect: str) -> list[str]:
    return list(prunable(model, Scope(protect=protect)))


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (nn.Linear(3, 2), ["weight"]),
        (nn.Linear(3, 2, bias=False), ["weight"]),
        (nn.Bilinear(2, 3, 4), ["weight"]),
        (nn.Conv1d(2, 3, 3), ["weight"]),
        (nn.Conv2d(2, 4, 3, groups=2), ["weight"]),
        (nn.Conv3d(2, 3, 3), ["weight"]),
        (nn.ConvTranspose2d(2, 3, 3), ["weight"]),
        (nn.RNN(3, 4, num_layers=2), ["weight_ih_l0", "weight_hh_l0", "weight_ih_l1", "weight_hh_l1"]),
        (nn.LSTM(3, 4, proj_size=2), ["weight_ih_l0", "weight_hh_l0", "weight_hr_l0"]),
        (
            nn.GRU(3, 4, bidirectional=True),
            ["weight_ih_l0", "weight_hh_l0", "weight_ih_l0_reverse", "weight_hh_l0_reverse"],
        ),
        (nn.LSTMCell(3, 4), ["weight_ih", "weight_hh"]),
        (nn.MultiheadAttention(4, 2, add_bias_kv=True), ["in_proj_weight", "out_proj.weight"]),
        (
            nn.MultiheadAttention(4, 2, kdim=3, vdim=5),
            ["q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"],
        ),
        (
            nn.TransformerEncoderLayer(4, 2, 8),
            ["self_attn.in_proj_weight", "self_attn.out_proj.weight", "linear1.weight", "linear2.weight"],
        ),
        (Everything(), ["only.weight"]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_is_prunable(module: nn.Module, expected: list[str]) -> None:
    found = prunable(module, Scope())
    weights = dict(module.named_parameters())
    assert list(found) == expected
    assert all(found[name] is weights[name] for name in expected)
    assert [n for n in weights if n in found] == expected  # in module order
    dense = Mask.dense(module)
    assert dense.shapes == {name: tuple(weights[name].shape) for name in expected}
    assert dense.density == 1.0


def test_transformers_conv1d_is_known_by_where_it_comes_from() -> None:
    kind = type("Conv1D", (Conv1D,), {"__module__": "transformers.pytorch_utils"})
    model = nn.Sequential(kind(6, 4), Conv1D(4, 6), nn.LayerNorm(4))  # the second is somebody else's
    assert Mask.dense(model).shapes == {"0.weight": (4, 6)}


def test_a_tied_weight_counts_once_under_its_first_name() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 2))
    model[2].weight = model[0].weight
    assert names(model) == ["0.weight", "3.weight"]


def test_a_shared_module_counts_once_under_its_first_name() -> None:
    layer = nn.Linear(4, 4)
    assert names(nn.Sequential(layer, nn.ReLU(), layer, nn.Sequential(layer, nn.Linear(4, 4)))) == [
        "0.weight",
        "3.1.weight",
    ]


@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
@pytest.mark.parametrize("embedding_first", [True, False])
def test_what_is_tied_to_an_embedding_stays_dense(kind: type[nn.Module], embedding_first: bool) -> None:
    embedding, body, head = kind(10, 4), nn.Linear(4, 4), nn.Linear(4, 10)
    head.weight = embedding.weight  # type: ignore[assignment]
    order = [embedding, body, head] if embedding_first else [head, body, embedding]
    assert names(nn.Sequential(*order)) == ["1.weight"]


def test_a_parametrized_layer_stays_dense() -> None:
    model = nn.Sequential(weight_norm(nn.Linear(3, 4)), nn.ReLU(), nn.Linear(4, 2))
    assert names(model) == ["2.weight"]
    with pytest.raises(UsageError, match=r"parametrizations\.weight"):
        Mask.dense(model[:1])


def test_a_vector_is_no_weight_to_prune() -> None:
    diagonal = nn.Linear(3, 3)
    diagonal.weight = nn.Parameter(torch.ones(3))
    assert names(nn.Sequential(diagonal, nn.Linear(3, 2))) == ["1.weight"]


def test_protected_patterns() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Linear(4, 4), nn.Linear(4, 2))
    assert names(model) == ["0.weight", "1.weight", "2.weight"]
    assert names(model, "2.*") == ["0.weight", "1.weight"]
    assert names(model, "[01].weight", "*.bias") == ["2.weight"]
    assert Mask.dense(model, Scope(protect=("0.*", "2.weight"))).kept == {"1.weight": 16}
    with pytest.raises(UsageError, match=r"protect='2\.wieght' matches no parameter\. Did you mean '2\.weight'\?"):
        names(model, "2.wieght")
    with pytest.raises(UsageError, match=r"protect='2' matches no parameter"):
        names(model, "*.bias", "2")
    with pytest.raises(UsageError, match=r"no prunable weight.*protect=\['\*'\]"):
        names(model, "*")


def test_patterns_tell_upper_from_lower_case() -> None:
    model = nn.Sequential()
    model.add_module("Head", nn.Linear(3, 2))
    model.add_module("body", nn.Linear(2, 2))
    assert names(model, "Head*") == ["body.weight"]
    with pytest.raises(UsageError, match="matches no parameter"):
        names(model, "head*")


@pytest.mark.parametrize(
    ("model", "parameters"),
    [(nn.ReLU(), "none"), (nn.BatchNorm1d(3), "weight, bias"), (nn.Embedding(3, 2), "weight")],
    ids=["nothing", "norm", "embedding"],
)
def test_nothing_prunable_is_refused(model: nn.Module, parameters: str) -> None:
    with pytest.raises(UsageError, match=rf"{type(model).__name__} has no prunable weight: .*: {parameters}\."):
        Mask.dense(model)


def test_a_complex_weight_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match=r"'0\.weight' has dtype torch\.complex64; only real"):
        Mask.dense(nn.Sequential(nn.Linear(2, 2, dtype=torch.complex64)))


def test_frozen_and_half_weights_are_prunable() -> None:
    model = nn.Sequential(nn.Linear(3, 3).requires_grad_(False), nn.Linear(3, 3, dtype=torch.bfloat16))
    assert names(model) == ["0.weight", "1.weight"]


def test_a_scope_is_a_value() -> None:
    assert Scope() == Scope(protect=())
    assert len({Scope(), Scope(protect=("a",)), Scope(protect=("a",))}) == 2
    with pytest.raises(AttributeError):
        Scope().protect = ("x",)  # type: ignore[misc]
