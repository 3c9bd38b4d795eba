"""The named networks: counts, names, what they compute, what they refuse."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from model_helpers import CIFAR, count, stirred, weights
from torch import Tensor, nn

from tombola import Scope
from tombola.errors import UsageError
from tombola.models import MODELS, Net
from tombola.models.dropout import CounterDropout
from tombola.models.residual import Residual

RESNET_SCOPE = Scope(protect=("output.*", "*shortcut*"))


def shapes(name: str, input_shape: tuple[int, ...] = CIFAR, outputs: int = 10, net: Net | None = None) -> nn.Module:
    """The network without numbers, which is quick."""
    with torch.device("meta"):
        return MODELS[name](input_shape, outputs, net or Net(), 0)


@pytest.mark.parametrize(
    ("name", "input_shape", "everything", "convolutions"),
    [
        ("lenet-300-100", (1, 28, 28), 266_200, 0),
        ("conv-2", CIFAR, 4_300_992, 38_592),
        ("conv-4", CIFAR, 2_425_024, 259_776),
        ("conv-6", CIFAR, 2_261_184, 1_144_512),
        ("resnet-20", CIFAR, 270_896, 270_256),
        ("vgg-16", CIFAR, 14_715_584, 14_710_464),
        ("vgg-19", CIFAR, 20_024_000, 20_018_880),
    ],
)
def test_weights_are_those_of_the_paper(
    name: str, input_shape: tuple[int, ...], everything: int, convolutions: int
) -> None:
    found = weights(shapes(name, input_shape))
    assert (count(found), count(found, kernels=True)) == (everything, convolutions)


@pytest.mark.parametrize(
    ("name", "scope", "expected"),
    [("resnet-20", RESNET_SCOPE, 267_696), ("vgg-19", Scope(protect=("output.*",)), 20_018_880)],
)
def test_global_pruning_leaves_the_ends_out(name: str, scope: Scope, expected: int) -> None:
    assert count(weights(shapes(name), scope)) == expected


def residual_weights(
    blocks: tuple[int, ...], width: int, kernel: int, body: Callable[[int, int], int], out: int
) -> int:
    """Convolutions of a residual network on three channels: stem, blocks, projections where the width changes."""
    total, channels = kernel * kernel * 3 * width, width
    for stage, number in enumerate(blocks):
        for _ in range(number):
            total += body(channels, width * 2**stage)
            if channels != out * width * 2**stage:
                total += channels * out * width * 2**stage
            channels = out * width * 2**stage
    return total


def basic(inputs: int, width: int) -> int:
    return 9 * inputs * width + 9 * width * width


def bottleneck(inputs: int, width: int) -> int:
    return inputs * width + 9 * width * width + 4 * width * width


def separable(inputs: int, width: int) -> int:
    return 9 * inputs + inputs * width + 9 * width + width * width


@pytest.mark.parametrize(
    ("name", "outputs", "convolutions", "last"),
    [
        ("resnet-20", 10, residual_weights((3, 3, 3), 16, 3, basic, 1), 64),
        ("resnet-56", 10, residual_weights((9, 9, 9), 16, 3, basic, 1), 64),
        ("separable-20", 10, residual_weights((3, 3, 3), 16, 3, separable, 1), 64),
        ("resnet-18", 1000, residual_weights((2, 2, 2, 2), 64, 7, basic, 1), 512),
        ("resnet-50", 1000, residual_weights((3, 4, 6, 3), 64, 7, bottleneck, 4), 2048),
    ],
)
def test_residual_networks_have_the_weights_of_a_sum(name: str, outputs: int, convolutions: int, last: int) -> None:
    model = shapes(name, outputs=outputs)
    found = weights(model)
    assert count(found, kernels=True) == convolutions
    assert count(found) == convolutions + last * outputs
    scales = sum(m.num_features for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    assert sum(p.numel() for p in model.parameters()) == count(found) + 2 * scales + outputs
    channels = sum(m.out_channels for m in model.modules() if isinstance(m, nn.Conv2d))
    assert channels == scales  # a batch norm behind every convolution


@pytest.mark.parametrize(("name", "expected"), [("resnet-18", 11_689_512), ("resnet-50", 25_557_032)])
def test_parameters_of_the_large_networks(name: str, expected: int) -> None:
    assert sum(p.numel() for p in shapes(name, (3, 224, 224), 1000).parameters()) == expected


@pytest.mark.parametrize("name", [n for n in MODELS if n[:3] in {"res", "vgg", "sep"}])
def test_names_say_what_is_a_shortcut_and_norms_take_the_biases(name: str) -> None:
    model = shapes(name)
    kernels = {n: m for n, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    assert all(kernel.bias is None for kernel in kernels.values())
    projections = [n for n in kernels if "shortcut" in n]
    assert all(kernels[n].kernel_size == (1, 1) for n in projections)
    assert len(projections) == {"resnet-18": 3, "resnet-50": 4}.get(name, 0 if "vgg" in name else 2)
    assert list(weights(model))[-1] == "output.weight"


def test_conv_networks_are_plain_chains() -> None:
    model = shapes("conv-4", (1, 28, 28), net=Net(dropout=0.5, hidden=(100, 50, 20), width=0.25))
    assert type(model) is nn.Sequential
    assert [name for name, _ in model.named_children()] == [
        *("conv1", "relu1", "conv2", "relu2", "pool1", "conv3", "relu3", "conv4", "relu4", "pool2", "flatten"),
        *("fc1", "relu5", "dropout1", "fc2", "relu6", "dropout2", "fc3", "relu7", "dropout3", "output"),
    ]
    kinds = {nn.Conv2d, nn.ReLU, nn.MaxPool2d, nn.Flatten, nn.Linear, CounterDropout}
    assert {type(layer) for layer in model} == kinds
    assert list(weights(model).values()) == [
        *((16, 1, 3, 3), (16, 16, 3, 3), (32, 16, 3, 3), (32, 32, 3, 3)),
        *((25, 32 * 7 * 7), (12, 25), (5, 12), (10, 5)),
    ]
    assert "tanh3" in dict(shapes("conv-2", net=Net(activation="tanh")).named_children())


def test_a_quarter_of_conv_2() -> None:
    found = list(weights(shapes("conv-2", (1, 28, 28), net=Net(width=0.25))).values())
    assert found == [(16, 1, 3, 3), (16, 16, 3, 3), (64, 16 * 14 * 14), (64, 64), (10, 64)]


@pytest.mark.parametrize("width", [0.01, 0.3, 1.5])
@pytest.mark.parametrize("name", MODELS)
def test_every_width_and_channel_number_computes(name: str, width: float) -> None:
    net = Net(width=width / 8 if name == "resnet-50" or "vgg" in name else width)
    model = MODELS[name]((2, 17, 16), 3, net, 0)
    found = model(torch.rand(2, 2, 17, 16, generator=torch.Generator().manual_seed(0)))
    assert found.shape == (2, 3) and bool(found.isfinite().all())


@pytest.mark.parametrize("training", [False, True])
def test_conv_2_is_its_formula(training: bool) -> None:
    model = MODELS["conv-2"]((3, 7, 8), 5, Net(width=0.1), 3).double().train(training)
    generator = torch.Generator().manual_seed(1)
    for bias in (p for n, p in model.named_parameters() if n.endswith("bias")):
        bias.data.normal_(generator=generator)
    p = dict(model.named_parameters())
    x = torch.randn(4, 3, 7, 8, generator=generator, dtype=torch.float64)
    y = x
    for layer in ("conv1", "conv2"):
        y = F.conv2d(y, p[f"{layer}.weight"], p[f"{layer}.bias"], padding=1).clamp(min=0)
    y = y[:, :, :6].unfold(2, 2, 2).unfold(3, 2, 2).amax((4, 5)).flatten(1)  # the seventh row has no partner
    for layer in ("fc1", "fc2"):
        y = (y @ p[f"{layer}.weight"].T + p[f"{layer}.bias"]).clamp(min=0)
    assert torch.allclose(model(x), y @ p["output.weight"].T + p["output.bias"], rtol=0, atol=1e-12)


def normed(x: Tensor, layer: nn.BatchNorm2d, training: bool) -> Tensor:
    mean = x.mean((0, 2, 3)) if training else layer.running_mean
    variance = x.var((0, 2, 3), correction=0) if training else layer.running_var
    assert mean is not None and variance is not None
    scale = layer.weight / (variance + layer.eps).sqrt()
    return (x - mean[:, None, None]) * scale[:, None, None] + layer.bias[:, None, None]


BODIES: dict[str, list[tuple[str, str, bool]]] = {  # convolution, norm, whether a ReLU follows
    "resnet-20": [("conv1", "norm1", True), ("conv2", "norm2", False)],
    "resnet-50": [("conv1", "norm1", True), ("conv2", "norm2", True), ("conv3", "norm3", False)],
    "separable-20": [
        *(("depthwise1", "depthwise_norm1", True), ("pointwise1", "norm1", True)),
        *(("depthwise2", "depthwise_norm2", True), ("pointwise2", "norm2", False)),
    ],
}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("place", ["stage1.1", "stage2.0"])  # with the identity, and with a projection
@pytest.mark.parametrize("name", BODIES)
def test_a_block_is_its_formula(name: str, place: str, training: bool) -> None:
    model = stirred(MODELS[name]((1, 8, 8), 3, Net(width=0.25), 2)).train(training)
    block = model.get_submodule(place)
    assert isinstance(block, Residual)
    layers = dict(block.named_modules())
    stride = 2 if place.endswith("0") else 1
    channels = next(m.in_channels for m in layers.values() if isinstance(m, nn.Conv2d))
    x = torch.randn(3, channels, 5, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    y, strided = x, {"conv2"} if name == "resnet-50" else {"conv1", "depthwise1"}
    for convolution, norm, rectified in BODIES[name]:
        kernel = layers[f"body.{convolution}"]
        scale = layers[f"body.{norm}"]
        assert isinstance(kernel, nn.Conv2d) and isinstance(scale, nn.BatchNorm2d)
        weight = kernel.weight
        groups = y.shape[1] if "depthwise" in convolution else 1
        step = stride if convolution in strided else 1
        y = F.conv2d(y, weight, None, step, padding=weight.shape[-1] // 2, groups=groups)
        y = normed(y, scale, training).clamp(min=0 if rectified else -math.inf)
    if stride == 2:
        kernel, scale = layers["shortcut.conv"], layers["shortcut.norm"]
        assert isinstance(kernel, nn.Conv2d) and isinstance(scale, nn.BatchNorm2d)
        kept = torch.einsum("oi,nihw->nohw", kernel.weight[:, :, 0, 0], x[:, :, ::2, ::2])
        expected = (y + normed(kept, scale, training)).clamp(min=0)
    else:
        expected = (y + x).clamp(min=0)
    assert torch.allclose(block(x), expected, rtol=0, atol=1e-12)


def test_vgg_takes_the_mean_over_places() -> None:
    """Four pools on 32 x 32 leave 2 x 2, which are averaged, as the paper's table says."""
    model = stirred(MODELS["vgg-16"]((3, 32, 32), 4, Net(width=0.03), 1)).eval()
    assert isinstance(model, nn.Sequential)
    x = y = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    groups = [len(list(g)) for pool, g in itertools.groupby(model, lambda m: isinstance(m, nn.MaxPool2d)) if not pool]
    assert groups == [6, 6, 9, 9, 12]  # the last one with pool, flatten and output
    for layer in model[:-3]:
        y = layer(y)
    assert y.shape == (2, 15, 2, 2)
    head = model.get_submodule("output")
    assert torch.allclose(model(x), head(y.mean((2, 3))), rtol=0, atol=1e-12)


REFUSED: list[tuple[str, tuple[int, ...], int, Net, str]] = [
    (
        "conv-2",
        (64,),
        10,
        Net(),
        r"conv-2 reads images: expected channels x height x width, got inputs of shape \(64,\)",
    ),
    ("resnet-20", (8, 8), 10, Net(), r"resnet-20 reads images: .* got inputs of shape \(8, 8\)"),
    ("conv-2", (1, 1, 8), 10, Net(), r"conv-2 has 1 pool of 2 x 2 and needs images of .* 2 x 2 .*, got 1 x 1 x 8"),
    ("conv-4", (1, 8, 3), 10, Net(), "conv-4 has 2 pools of 2 x 2 and needs images of .* 4 x 4 places or more"),
    ("conv-6", (3, 7, 9), 10, Net(), "conv-6 has 3 pools .* 8 x 8 places or more, got 3 x 7 x 9"),
    ("vgg-16", (1, 8, 8), 10, Net(), "vgg-16 has 4 pools of 2 x 2 and needs images of .* 16 x 16 places or more"),
    ("vgg-19", (0, 16, 16), 10, Net(), "vgg-19 .* needs images of one channel or more"),
    ("resnet-18", (3, 0, 8), 10, Net(), "resnet-18 needs images of one channel or more and 1 x 1 places or more"),
    ("resnet-50", (3, 8, 8), 0, Net(), "resnet-50 is asked for 0 outputs; expected 1 or more"),
    ("conv-6", (3, 8, 8), -1, Net(), "conv-6 is asked for -1 outputs"),
    ("mlp", (3,), 0, Net(), "expected inputs, hidden units and outputs"),
    ("mlp", (3,), 2, Net(dropout=0.5), "mlp has no fully connected hidden layer for dropout, and net.dropout is 0.5"),
    ("mlp", (3,), 2, Net(norm_scale="uniform"), "mlp has no batch norm whose scale could be set"),
    ("lenet-300-100", (3,), 2, Net(norm_scale="uniform"), "lenet-300-100 has no batch norm"),
    ("conv-2", (1, 8, 8), 2, Net(norm_scale="uniform"), "conv-2 has no batch norm .* net.norm_scale is uniform"),
    ("conv-2", (1, 8, 8), 2, Net(hidden=(3, 0)), r"net.hidden is \(3, 0\); expected widths of hidden layers"),
    ("conv-2", (1, 8, 8), 2, Net(dropout=1.0), "dropout=1.0; expected a rate from 0 to below 1"),
    ("resnet-20", (1, 8, 8), 2, Net(hidden=(30, 20)), "resnet-20 has no fully connected .* net.hidden is 30 20; leave"),
    ("vgg-16", (1, 16, 16), 2, Net(dropout=0.5), "vgg-16 has no fully connected hidden layer for dropout"),
    ("separable-20", (1, 8, 8), 2, Net(activation="tanh"), "separable-20 has no other activation than relu"),
]


@pytest.mark.parametrize(("name", "input_shape", "outputs", "net", "message"), REFUSED)
def test_what_a_network_refuses(name: str, input_shape: tuple[int, ...], outputs: int, net: Net, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        MODELS[name](input_shape, outputs, net, 0)


@pytest.mark.parametrize(("name", "least"), [("conv-2", 2), ("conv-4", 4), ("conv-6", 8), ("vgg-16", 16)])
def test_the_least_image_is_enough(name: str, least: int) -> None:
    model = MODELS[name]((1, least, least), 2, Net(width=0.05), 0).eval()
    assert model(torch.zeros(1, 1, least, least)).shape == (1, 2)
