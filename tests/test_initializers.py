"""Initialisations: the distribution that each one says, from the seed alone."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from helpers import same_state
from torch import Tensor, nn

from tombola.errors import TicketError, UsageError
from tombola.models import INITIALIZERS, MODELS, Net, initialise, mlp
from tombola.registry import chosen
from tombola.specs import digest
from tombola.streams import stream
from tombola.tickets import NamedModel

CONV, MATRIX, DEEP = (96, 32, 3, 3), (200, 300), (64, 1, 3, 3)  # DEEP: one input channel in each of 64 groups
SIGMA: dict[str, Callable[[int, int], float]] = {
    "glorot-normal": lambda inputs, outputs: math.sqrt(2 / (inputs + outputs)),
    "glorot-uniform": lambda inputs, outputs: math.sqrt(2 / (inputs + outputs)),
    "kaiming-normal": lambda inputs, outputs: math.sqrt(2 / inputs),
    "kaiming-uniform": lambda inputs, outputs: math.sqrt(2 / inputs),
    "gaussian:sigma=0.03": lambda inputs, outputs: 0.03,
    "orthogonal": lambda inputs, outputs: 1 / math.sqrt(max(inputs, outputs)),
}


def drawn(text: str, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    weight = torch.empty(shape, dtype=torch.float64)
    with torch.no_grad():
        chosen(text, INITIALIZERS, "initializer")(weight, stream(seed, "init"))
    return weight


def test_every_initialisation_is_looked_at() -> None:
    assert [name.partition(":")[0] for name in SIGMA] == list(INITIALIZERS)


@pytest.mark.parametrize("shape", [CONV, MATRIX])
@pytest.mark.parametrize("text", SIGMA)
def test_the_spread_is_that_of_the_formula(text: str, shape: tuple[int, ...]) -> None:
    weight, places = drawn(text, shape), math.prod(shape[2:])
    inputs, outputs = shape[1] * places, shape[0] * places
    # Rows of a kernel are flattened, so its outputs are not counted by place.
    sigma = SIGMA[text](inputs, shape[0] if text == "orthogonal" else outputs)
    count = weight.numel()
    assert abs(float(weight.mean())) < 5 * sigma / math.sqrt(count)
    assert float(weight.square().mean().sqrt()) == pytest.approx(sigma, rel=5 / math.sqrt(count))
    uniform = text.endswith("uniform")
    assert (float(weight.abs().max()) <= math.sqrt(3) * sigma) == uniform
    if text != "orthogonal":
        fourth = float(weight.pow(4).mean()) / sigma**4  # 3 of a normal distribution, 9 / 5 of a uniform one
        assert fourth == pytest.approx(1.8 if uniform else 3, abs=0.2)


@pytest.mark.parametrize("shape", [CONV, MATRIX, DEEP])
def test_orthogonal_rows_or_columns_are_orthonormal(shape: tuple[int, ...]) -> None:
    matrix = drawn("orthogonal", shape).flatten(1)
    gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    assert torch.allclose(gram, torch.eye(len(gram), dtype=torch.float64), atol=1e-12)


@pytest.mark.parametrize("text", SIGMA)
def test_networks_take_every_initialisation(text: str) -> None:
    net = Net(initializer=text, hidden=(9,), width=0.25)
    one, same, other = (MODELS["conv-2"]((1, 6, 6), 3, net, seed) for seed in (3, 3, 4))
    assert same_state(one.state_dict(), same.state_dict())
    assert not torch.equal(one.get_parameter("conv2.weight"), other.get_parameter("conv2.weight"))
    generator = stream(3, "init")
    with torch.no_grad():
        for layer in one:
            if isinstance(layer, nn.Conv2d | nn.Linear):  # in module order, one after the other from one stream
                weight = torch.empty_like(layer.weight)
                chosen(text, INITIALIZERS, "initializer")(weight, generator)
                assert torch.equal(layer.weight, weight)
                assert layer.bias is not None and not bool(layer.bias.any())


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("mlp", "glorot-normal"),
        ("conv-2", "glorot-normal"),
        ("resnet-20", "kaiming-normal"),
        ("vgg-16", "kaiming-normal"),
    ],
)
def test_a_network_has_its_own_initialisation(name: str, default: str) -> None:
    found, named = (
        MODELS[name]((1, 16, 16), 3, Net(width=0.1, initializer=text), 5).state_dict() for text in ("", default)
    )
    assert same_state(found, named)


def test_an_mlp_takes_another_initialisation() -> None:
    wide = mlp((40, 60, 3), initializer="gaussian:sigma=0.5", seed=1)
    assert float(wide.get_parameter("fc1.weight").detach().std()) == pytest.approx(0.5, rel=0.1)


def test_batch_norm_scales_are_one_or_uniform_and_move_no_weight() -> None:
    one, uniform = (
        MODELS["resnet-20"]((1, 8, 8), 3, Net(norm_scale=scale), 2).state_dict() for scale in ("one", "uniform")
    )
    differ = [name for name in one if not torch.equal(one[name], uniform[name])]
    norms = [n for n in one if "norm" in n.rpartition(".")[0].rpartition(".")[2] and n.endswith(".weight")]
    assert differ == norms and len(norms) == 21  # 19 convolutions and 2 projections
    values = torch.cat([uniform[name] for name in norms])
    assert all(bool((one[name] == 1).all()) for name in norms)
    assert 0 <= float(values.min()) < 0.01 and 0.99 < float(values.max()) < 1
    assert float(values.mean()) == pytest.approx(0.5, abs=0.05)
    assert len(values.unique()) == len(values)  # layers differ


def test_a_used_layer_begins_anew() -> None:
    """Running statistics are those of a new layer, whatever went through it before."""
    norm = nn.BatchNorm2d(2)
    norm(torch.full((2, 2, 3, 3), 7.0) + torch.arange(3))
    norm.bias.data.fill_(4)
    initialise(norm, Net(), 0, "glorot-normal")
    assert same_state(norm.state_dict(), nn.BatchNorm2d(2).state_dict())


def test_the_new_options_leave_old_identities() -> None:
    assert digest(Net()) == digest(Net(initializer="", norm_scale="one"))
    assert len({digest(n) for n in (Net(), Net(initializer="orthogonal"), Net(norm_scale="uniform"))}) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kaiming", r"Unknown net.initializer 'kaiming'; expected NAME.*Did you mean 'kaiming-\w+'\?"),
        ("mine:draw", "Unknown net.initializer 'mine:draw'"),
        ("gaussian:draw", "Unknown net.initializer 'gaussian:draw'"),  # no import path, in a ticket file least of all
        ("gaussian:mine:draw=1", "Unknown net.initializer"),
        ("gaussian:", "Unknown net.initializer 'gaussian:'"),
        ("gaussian:sigma=0", "sigma is 0.0; expected a standard deviation above 0"),
        ("gaussian:sigma=nan", "sigma is nan"),
        ("gaussian:scale=1", "no option 'scale'"),
        ("orthogonal:gain=2", "'orthogonal' has no options"),
    ],
)
def test_initialisations_that_are_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        MODELS["mlp"]((4,), 2, Net(initializer=text), 0)


def test_an_unknown_scale_is_refused() -> None:
    with pytest.raises(UsageError, match=r"Unknown net.norm_scale 'two'\. "):
        Net(norm_scale="two")  # type: ignore[arg-type]


def test_a_ticket_s_note_keeps_the_options_and_imports_nothing() -> None:
    named = NamedModel(
        name="resnet-20",
        input_shape=(1, 8, 8),
        outputs=3,
        net=Net(width=0.25, initializer="orthogonal", norm_scale="uniform"),
    )
    note = named.note()
    assert note["net"] == {"width": 0.25, "initializer": "orthogonal", "norm_scale": "uniform"}
    state = named(4).state_dict()
    made = NamedModel.from_note(note, sum(t.numel() for t in state.values()), len(state))
    assert same_state(made(4).state_dict(), state)
    note["net"]["initializer"] = "this:s"
    with pytest.raises((TicketError, UsageError, ValueError), match=r"cannot be built|Unknown"):
        NamedModel.from_note(note, 10**6, len(state))
