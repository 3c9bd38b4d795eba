"""Recipes of convolutional networks: the paper's, and twins that finish in minutes on a processor."""

from __future__ import annotations

from dataclasses import replace

from tombola.models.net import Net
from tombola.recipes.recipe import Recipe
from tombola.training.optimizers import LrSchedule, Optimizer

__all__ = ["CONVOLUTIONAL"]

_SGD = Optimizer(name="sgd", lr=0.1, momentum=0.9, weight_decay=1e-4)
_FREE = ("output.*", "*shortcut*")  # global pruning leaves the last layer and the 1x1 projections alone
_PAPER = "as in Frankle and Carbin (2019)"

_CONV = Recipe(
    name="cifar-conv2",
    summary=f"Conv-2 on CIFAR-10 {_PAPER}: batch 60, Adam 2e-4, 20,000 steps; convolutions lose 10 % a level.",
    data="cifar-10",
    model="conv-2",
    steps=20_000,
    optimizer=Optimizer(lr=2e-4),
    eval_every=100,
    normalise="standard",
    allocation="layerwise:conv=0.1",
    levels=22,
)

_RESNET = Recipe(
    name="cifar-resnet20",
    summary=f"ResNet-20 (the paper's ResNet-18) on CIFAR-10 {_PAPER}: SGD 0.1, drops at 20,000 and 25,000 of 30,000.",
    data="cifar-10",
    model="resnet-20",
    steps=30_000,
    batch_size=128,
    optimizer=_SGD,
    lr_schedule=LrSchedule(name="step", milestones=(20_000, 25_000)),
    eval_every=100,
    normalise="standard",
    augment="flip-crop",
    allocation="global",
    protect=_FREE,
    levels=15,
    replicates=3,
    endpoint="end",
)

_VGG = replace(
    _RESNET,
    name="cifar-vgg19",
    summary=f"VGG-19 on CIFAR-10 {_PAPER}: SGD 0.1, batch 64, drops at epochs 80 and 120 of 160.",
    model="vgg-19",
    steps=112_480,
    batch_size=64,
    lr_schedule=LrSchedule(name="step", milestones=(56_240, 84_360)),
    eval_every=500,
    protect=("output.*",),
    levels=20,
)

_VGG16 = replace(
    _VGG,
    name="cifar-vgg16",
    summary="VGG-16 on CIFAR-10 as in Frankle et al. (2020): SGD 0.1, batch 128, drops at 32,000 and 48,000 of 63,000.",
    model="vgg-16",
    steps=63_000,
    batch_size=128,
    lr_schedule=LrSchedule(name="step", milestones=(32_000, 48_000)),
    rewind_to=1_000,
)


def _deeper(recipe: Recipe, layers: int, steps: int, rate: float) -> Recipe:
    """Conv-4 or Conv-6."""
    return replace(
        recipe,
        name=f"cifar-conv{layers}",
        summary=f"Conv-{layers} on CIFAR-10 {_PAPER}: batch 60, Adam 3e-4, {steps:,} steps; "
        f"convolutions lose {rate:.0%} a level.".replace("%", " %"),
        model=f"conv-{layers}",
        steps=steps,
        optimizer=Optimizer(lr=3e-4),
        allocation=f"layerwise:conv={rate}",
    )


def _dropped(recipe: Recipe, lr: float) -> Recipe:
    """With dropout on the fully connected layers, at the paper's rate for it."""
    adam = f"{lr:.0e}".replace("e-0", "e-")
    summary = f"{recipe.name} with dropout 0.5 on the hidden fully connected layers, and Adam {adam}."
    net, optimizer = replace(recipe.net, dropout=0.5), replace(recipe.optimizer, lr=lr)
    return replace(recipe, name=f"{recipe.name}-dropout", summary=summary, net=net, optimizer=optimizer)


def _low(recipe: Recipe) -> Recipe:
    """At a tenth of the learning rate, where the paper found tickets without rewinding."""
    optimizer = replace(recipe.optimizer, lr=0.01)
    summary = f"{recipe.name} at learning rate 0.01: tickets from the first weights, a lower accuracy."
    return replace(recipe, name=f"{recipe.name}-low", summary=summary, optimizer=optimizer, rewind_to=0)


def _warmed(recipe: Recipe, lr: float, steps: int) -> Recipe:
    """With a linear warmup."""
    return replace(
        recipe,
        name=f"{recipe.name}-warmup",
        summary=f"{recipe.name} with a linear warmup to {lr} over {steps:,} steps.",
        optimizer=replace(recipe.optimizer, lr=lr),
        lr_schedule=replace(recipe.lr_schedule, warmup=steps),
        rewind_to=0,
    )


_CONV4 = _deeper(_CONV, 4, 25_000, 0.1)
_CONV6 = _deeper(_CONV, 6, 30_000, 0.15)

_DIGITS_RESNET = replace(
    _RESNET,
    name="digits-resnet",
    summary="A narrow ResNet-20 on scikit-learn's 8x8 digits: 600 steps, 5 levels, in minutes.",
    data="digits",
    net=Net(width=0.5),
    steps=600,
    batch_size=64,
    lr_schedule=LrSchedule(name="step", milestones=(400, 500)),
    eval_every=50,
    augment="none",
    memory_format="channels-last",
    rate=0.4,
    levels=5,
    replicates=5,
)

CONVOLUTIONAL = (
    _CONV,
    _CONV4,
    _CONV6,
    _dropped(_CONV, 3e-4),
    _dropped(_CONV4, 2e-4),
    _dropped(_CONV6, 2e-4),
    _RESNET,
    _low(_RESNET),
    _warmed(_RESNET, 0.03, 20_000),
    _VGG,
    _low(_VGG),
    _warmed(_VGG, 0.1, 10_000),
    _VGG16,
    replace(
        _CONV,
        name="digits-conv2",
        summary="A narrow Conv-2 on scikit-learn's 8x8 digits: 600 steps, 5 levels, in minutes.",
        data="digits",
        net=Net(width=0.25),
        steps=600,
        optimizer=Optimizer(lr=1.2e-3),
        eval_every=25,
        normalise="unit",
        rate=0.4,
        allocation="layerwise:conv=0.2",
        levels=5,
    ),
    replace(
        _CONV,
        name="fashion-conv2",
        summary="A narrow Conv-2 (16/64) on 14,000 images of Fashion-MNIST: 600 steps, 5 levels, in minutes.",
        data="fashion-mnist:train=14000,test=2000",
        net=Net(width=0.25),
        steps=600,
        optimizer=Optimizer(lr=1.2e-3),
        eval_every=50,
        normalise="pixel",
        validation=2_000,
        rate=0.4,
        allocation="layerwise:conv=0.2",
        levels=5,
    ),
    _DIGITS_RESNET,
    replace(
        _DIGITS_RESNET,
        name="digits-separable",
        summary="digits-resnet with depthwise-separable convolutions, which are sparse by design.",
        model="separable-20",
    ),
)
