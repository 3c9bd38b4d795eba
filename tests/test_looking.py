"""Looking into networks: what layers read, and what their units put out, against the layers' own arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from criteria_helpers import network, probe
from helpers import random_mask, same_state
from torch import Tensor, nn
from torch.nn import functional as F

from tombola.criteria import Probe
from tombola.criteria.looking import (
    as_matrix,
    changing,
    from_matrix,
    layers_of,
    meetings,
    patches,
    pooled,
    reading,
    scoring,
    units_last,
    watching,
)
from tombola.errors import UsageError
from tombola.masks import Mask


@pytest.fixture(autouse=True)
def drawn() -> None:
    """The same draws whatever ran before."""
    torch.manual_seed(0)


class Conv1D(nn.Module):
    """Transformers' layer of this name: (inputs, units)."""

    def __init__(self, units: int, inputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, units))
        self.bias = nn.Parameter(torch.randn(units))

    def forward(self, x: Tensor) -> Tensor:
        out = torch.addmm(self.bias, x.view(-1, x.shape[-1]), self.weight)
        return out.view(*x.shape[:-1], -1)


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(5, 3), (4, 5)),
    "linear on a sequence": (lambda: nn.Linear(5, 3), (4, 2, 5)),
    "linear on one example": (lambda: nn.Linear(5, 3), (5,)),
    "transformers": (lambda: Conv1D(3, 5), (4, 2, 5)),
    "one dimension": (lambda: nn.Conv1d(4, 6, 3, stride=2, padding=2, dilation=2), (3, 4, 11)),
    "groups": (lambda: nn.Conv1d(4, 6, 3, groups=2), (3, 4, 9)),
    "depthwise": (lambda: nn.Conv2d(4, 8, 3, groups=4, padding=1), (2, 4, 5, 6)),
    "two dimensions": (lambda: nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 3)), (2, 2, 7, 8)),
    "one example": (lambda: nn.Conv2d(2, 3, 3, padding=1), (2, 5, 6)),
    "same": (lambda: nn.Conv2d(2, 3, (4, 3), padding="same", dilation=(1, 2)), (2, 2, 7, 6)),
    "valid": (lambda: nn.Conv2d(2, 3, 3, padding="valid"), (2, 2, 7, 6)),
    "same, circular": (lambda: nn.Conv1d(2, 3, 4, padding="same", padding_mode="circular"), (2, 2, 7)),
    "circular": (lambda: nn.Conv2d(2, 3, 3, padding=(2, 1), padding_mode="circular"), (2, 2, 5, 6)),
    "reflect": (lambda: nn.Conv2d(2, 3, 3, padding=(2, 1), padding_mode="reflect"), (2, 2, 5, 6)),
    "replicate": (lambda: nn.Conv3d(2, 3, 3, padding=(0, 1, 2), padding_mode="replicate"), (2, 2, 4, 3, 5)),
    "three dimensions": (lambda: nn.Conv3d(2, 4, (2, 3, 1), stride=(1, 2, 3), groups=2), (2, 2, 4, 5, 6)),
}


@pytest.mark.filterwarnings("ignore:Using padding=.same.")  # it says that it copies the input
@pytest.mark.parametrize("kind", LAYERS)
def test_patches_times_weights_is_the_layer(kind: str) -> None:
    build, shape = LAYERS[kind]
    layer, x = build().double(), torch.randn(shape, dtype=torch.float64)
    out = layer(x)
    rows, weights = patches(layer, x), as_matrix(layer, layer.weight)
    assert rows.shape[::2] == weights.shape[::2]
    product = (rows @ weights.mT).movedim(0, 1).flatten(1) + layer.bias
    assert torch.allclose(product, units_last(layer, out), rtol=1e-12, atol=1e-12)
    assert torch.equal(from_matrix(layer, weights, tuple(layer.weight.shape)), layer.weight)


def test_pooling_takes_the_largest_over_positions() -> None:
    x = torch.randn(3, 4, 5, 6)
    assert torch.equal(pooled(nn.Conv2d(1, 4, 1), x), x.amax((2, 3)))
    assert torch.equal(pooled(nn.Conv2d(1, 4, 1), x[0]), x[:1].amax((2, 3)))
    assert torch.equal(pooled(nn.Linear(1, 6), x), x.amax((1, 2)))
    assert torch.equal(pooled(nn.Linear(1, 6), x[0, 0]), x[0, 0])


class Net(nn.Module):
    """Layers that a function puts together."""

    def __init__(self, way: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.fc, self.shift = nn.Linear(4, 4), nn.Parameter(torch.ones(1))
        self.groups = nn.GroupNorm(2, 4)
        self.way = way

    def forward(self, x: Tensor) -> Tensor:
        return self.way(self, x)


Way = Callable[[Any, Tensor], Tensor]


def _added_in_place(net: Any, x: Tensor) -> Tensor:
    out = net.norm(net.conv(x))
    out += x.repeat(1, 2, 1, 1)
    return F.relu(out, inplace=True)


def _changed_later(net: Any, x: Tensor) -> Tensor:
    out = F.relu(net.conv(x))
    out.mul_(2).add_(1)
    out[:, 0] = 9.0
    return out


def _twice(net: Any, x: Tensor) -> Tensor:
    first, second = net.conv(x), net.conv(-x)
    return F.relu(first) + F.relu(second)


# What is done with a convolution -> what its units put out.
WAYS: dict[str, tuple[Way, Way]] = {
    "nothing": (lambda net, x: net.conv(x), lambda net, x: net.conv(x)),
    "functional": (lambda net, x: F.relu(net.conv(x)), lambda net, x: net.conv(x).clamp(min=0)),
    "named argument": (lambda net, x: F.gelu(input=net.conv(x)), lambda net, x: F.gelu(net.conv(x))),
    "module in place": (lambda net, x: nn.ReLU(inplace=True)(net.conv(x)), lambda net, x: net.conv(x).clamp(min=0)),
    "method in place": (lambda net, x: net.conv(x).tanh_(), lambda net, x: net.conv(x).tanh()),
    "clamp": (lambda net, x: net.conv(x).clamp(min=0), lambda net, x: net.conv(x).clamp(min=0)),
    "norm": (lambda net, x: F.relu(net.norm(net.conv(x))), lambda net, x: F.relu(net.norm(net.conv(x)))),
    "norm alone": (lambda net, x: net.norm(net.conv(x)), lambda net, x: net.norm(net.conv(x))),
    "norm behind": (lambda net, x: net.norm(F.relu(net.conv(x))), lambda net, x: F.relu(net.conv(x))),
    "groups": (lambda net, x: F.silu(net.groups(net.conv(x))), lambda net, x: F.silu(net.groups(net.conv(x)))),
    "pooled before": (
        lambda net, x: F.relu(F.max_pool2d(F.dropout(net.conv(x), training=False), 2)),
        lambda net, x: F.relu(F.max_pool2d(net.conv(x), 2)),
    ),
    "pooled behind": (lambda net, x: F.max_pool2d(F.relu(net.conv(x)), 2), lambda net, x: F.relu(net.conv(x))),
    "pooled alone": (lambda net, x: F.avg_pool2d(net.conv(x), 2), lambda net, x: net.conv(x)),
    "sum": (lambda net, x: F.relu(net.norm(net.conv(x)) + net.shift), lambda net, x: net.norm(net.conv(x))),
    "sum in place": (_added_in_place, lambda net, x: net.norm(net.conv(x))),
    "changed later": (_changed_later, lambda net, x: F.relu(net.conv(x))),
    "two nonlinearities": (lambda net, x: F.relu(net.conv(x)).sigmoid(), lambda net, x: F.relu(net.conv(x))),
    "called twice": (_twice, lambda net, x: F.relu(net.conv(-x))),
}


@pytest.mark.parametrize("kind", WAYS)
@torch.no_grad()
def test_watching_ends_behind_the_first_nonlinearity(kind: str) -> None:
    way, expected = WAYS[kind]
    net = Net(way).eval()
    net.norm.running_mean.normal_()
    x, plain = torch.randn(3, 2, 6, 6), None
    with watching({"w": net.conv}) as taken:
        for example in (x + 1, x):
            plain = net(example)
            found = taken()
        assert taken() == {}
    assert list(found) == ["w"]
    assert torch.equal(found["w"], expected(net, x))
    assert torch.equal(plain, net(x))  # watching changes nothing


def test_what_is_watched_can_be_differentiated() -> None:
    net, x = Net(lambda net, x: F.relu(net.norm(net.conv(x)))).eval(), torch.randn(3, 2, 6, 6)
    with watching({"w": net.conv}) as taken:
        out = net(x)
        (gradient,) = torch.autograd.grad(out.square().sum(), [taken()["w"]])
    assert torch.allclose(gradient, 2 * out)


@torch.no_grad()
def test_reading_sees_every_call_and_keeps_no_graph() -> None:
    net, seen = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), []
    x = torch.randn(5, 3)
    with torch.enable_grad(), reading({"a": net[0], "b": net[2]}, lambda *what: seen.append(what)):
        out = net(x)
        net(x)
    assert [name for name, _, _ in seen] == ["a", "b", "a", "b"]
    assert torch.equal(seen[0][1], x)
    assert torch.equal(seen[1][1], net[1](net[0](x)))
    assert torch.equal(seen[1][2], out)
    assert not any(tensor.requires_grad for _, *tensors in seen for tensor in tensors)


@pytest.mark.parametrize("kind", ["norm", "groups", "module in place", "pooled before", "called twice", "sum in place"])
@torch.no_grad()
def test_changing_writes_where_the_activations_are(kind: str) -> None:
    """Against what the rest of the network makes of activations that are changed by hand."""
    way, expected = WAYS[kind]
    net, x = Net(way).eval(), torch.randn(3, 2, 6, 6)
    out, at = meetings({"w": net.conv}, net, x)
    assert torch.equal(out, net(x))

    def silence(weight: str, activations: Tensor) -> None:
        assert weight == "w"
        activations[:, 1] = 0.5

    with changing({"w": net.conv}, at, silence):
        changed = net(x)
    by_hand = expected(net, x)
    by_hand[:, 1] = 0.5
    if kind == "called twice":
        by_hand = by_hand + F.relu(net.conv(x))
        by_hand[:, 1] = 1.0
    if kind == "sum in place":
        by_hand = F.relu(by_hand + x.repeat(1, 2, 1, 1))
    assert torch.equal(changed, by_hand)
    assert torch.equal(net(x), out)


class Breaks(nn.Module):
    """Raises behind its first layer."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        self.fc(x)
        raise ZeroDivisionError


@pytest.mark.parametrize(
    "look",
    [
        lambda net: reading({"fc.weight": net.fc}, lambda *what: None),
        lambda net: watching({"fc.weight": net.fc}),
        lambda net: changing({"fc.weight": net.fc}, {"fc.weight": frozenset({1})}, lambda weight, out: None),
        lambda net: scoring(net, Mask.dense(net), Probe()),
    ],
)
def test_nothing_is_left_behind_by_an_error(look: Any) -> None:
    net = Breaks()
    torch.manual_seed(4)
    state = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), look(net) as found:
        (found if isinstance(found, nn.Module) else net)(torch.ones(1, 3))
    assert not net.fc._forward_hooks
    assert not torch._C._is_torch_function_mode_enabled()
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled()


def test_scoring_gives_a_masked_copy_in_evaluation_mode() -> None:
    net = network("conv").train()
    net[0].weight.grad = torch.ones_like(net[0].weight)
    net[4].bias.requires_grad_(False)
    mask, before = random_mask(net, 0.5), {name: value.clone() for name, value in net.state_dict().items()}
    with torch.no_grad(), scoring(net, mask, Probe(seed=3)) as copied:
        drawn = torch.rand(2)
        assert not any(module.training for module in copied.modules())
        for name, weight in copied.named_parameters():
            original = net.get_parameter(name)
            assert weight is not original
            assert weight.requires_grad
            assert weight.grad is None
            assert torch.equal(weight, original * mask[name] if name in mask else original)
        copied(probe(net, "conv").batches[0][0]).sum().backward()  # the gradient's mode is on inside
    with scoring(net, mask, Probe(seed=3)):
        assert torch.equal(torch.rand(2), drawn)
    assert net.training
    assert same_state(before, net.state_dict())
    assert not net[4].bias.requires_grad
    assert torch.equal(net[0].weight.grad, torch.ones_like(net[0].weight))


def test_what_cannot_be_copied_is_refused() -> None:
    net = nn.Linear(2, 2)
    net.held = (n for n in range(3))
    with pytest.raises(UsageError, match="Linear cannot be copied"), scoring(net, Mask.dense(net), Probe()):
        pass


def test_layers_that_read_matrices_are_found_and_others_named() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ConvTranspose2d(2, 3, 3), nn.Linear(3, 3))
    with pytest.raises(
        UsageError, match=r"magic looks at .*'1.weight' belongs to a ConvTranspose2d.*protect=\('1\.\*'"
    ):
        layers_of(net, Mask.dense(net), "magic")
    found = layers_of(net, Mask.dense(net), "magic", transposed=True)
    assert found == {"0.weight": net[0], "1.weight": net[1], "2.weight": net[2]}
    attention = network("attention")
    with pytest.raises(UsageError, match="in_proj_weight"):
        layers_of(attention, Mask.dense(attention), "magic", transposed=True)
