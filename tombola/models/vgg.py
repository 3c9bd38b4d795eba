"""VGG-16 and VGG-19 with batch norm, in the form for small images."""

from __future__ import annotations

from torch import nn

from tombola.models.initializers import initialise
from tombola.models.layers import Layers, conv, image_shape, linear, norm, refuse_options
from tombola.models.net import Net

__all__ = ["vgg_16", "vgg_19"]

_CHANNELS = (64, 128, 256, 512, 512)


def vgg_16(input_shape: tuple[int, ...], outputs: int, net: Net, seed: int) -> nn.Module:
    """VGG-16: 2 x 64, 2 x 128, 3 x 256, 3 x 512, 3 x 512 channels; 14,715,584 weights on CIFAR-10.

    A convolution is 3 x 3 with padding 1, no bias, batch norm and ReLU; a maximum pool of 2 x 2 stands between the
    groups, the mean over all places and one linear layer at the end. Weights are Kaiming normal.

    Source: Simonyan and Zisserman (2015, arXiv 1409.1556), in the form for CIFAR-10 that Frankle and Carbin (2019,
    arXiv 1803.03635) train: batch norm, and one linear layer instead of three.
    """
    return _built("vgg-16", (2, 2, 3, 3, 3), input_shape, outputs, net, seed)


def vgg_19(input_shape: tuple[int, ...], outputs: int, net: Net, seed: int) -> nn.Module:
    """VGG-19: as VGG-16 with 4 convolutions in each of the last three groups; 20,024,000 weights on CIFAR-10.

    Source: Simonyan and Zisserman (2015, arXiv 1409.1556); Frankle and Carbin (2019, arXiv 1803.03635), figure 2.
    """
    return _built("vgg-19", (2, 2, 4, 4, 4), input_shape, outputs, net, seed)


def _built(
    name: str, groups: tuple[int, ...], input_shape: tuple[int, ...], outputs: int, net: Net, seed: int
) -> nn.Sequential:
    channels, _, _ = image_shape(name, input_shape, outputs, halvings=len(groups) - 1)
    refuse_options(name, net, "hidden", "activation", "dropout")
    layers = Layers()
    number = 0
    for group, (wanted, convolutions) in enumerate(zip(_CHANNELS, groups, strict=True)):
        if group:
            layers[f"pool{group}"] = nn.MaxPool2d(2)
        for _ in range(convolutions):
            number += 1
            layers[f"conv{number}"] = conv(channels, net.scaled(wanted), 3)
            layers[f"norm{number}"] = norm(net.scaled(wanted))
            layers[f"relu{number}"] = nn.ReLU()
            channels = net.scaled(wanted)
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["output"] = linear(channels, outputs)
    model = nn.Sequential(layers)
    initialise(model, net, seed, "kaiming-normal")
    return model
