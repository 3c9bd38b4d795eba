"""Conv-2, Conv-4 and Conv-6: the convolutional networks of the lottery ticket paper."""

from __future__ import annotations

from torch import nn

from tombola.errors import UsageError
from tombola.models.initializers import initialise
from tombola.models.layers import Layers, activation_of, add_dense, conv, image_shape, refuse_options
from tombola.models.net import Net

__all__ = ["conv_2", "conv_4", "conv_6"]

_CHANNELS = (64, 128, 256)
_HIDDEN = (256, 256)


def conv_2(input_shape: tuple[int, ...], outputs: int, net: Net, seed: int) -> nn.Module:
    """Conv-2: 64, 64, pool, then 256, 256 and the outputs; 4,300,992 weights on CIFAR-10, 38,592 in convolutions.

    A convolution is 3 x 3 with padding 1, bias and activation; a pool takes the maximum of 2 x 2. `net.hidden` gives
    other fully connected layers than 256 and 256, `net.width` scales channels and hidden units, dropout is on the
    hidden units. Weights are Glorot normal, biases 0.

    Source: Frankle and Carbin (2019, arXiv 1803.03635), figure 2, who do not say which layers have dropout.
    """
    return _built("conv-2", 1, input_shape, outputs, net, seed)


def conv_4(input_shape: tuple[int, ...], outputs: int, net: Net, seed: int) -> nn.Module:
    """Conv-4: as Conv-2 with 128, 128, pool more; 2,425,024 weights on CIFAR-10, 259,776 in convolutions.

    Source: Frankle and Carbin (2019, arXiv 1803.03635), figure 2.
    """
    return _built("conv-4", 2, input_shape, outputs, net, seed)


def conv_6(input_shape: tuple[int, ...], outputs: int, net: Net, seed: int) -> nn.Module:
    """Conv-6: as Conv-4 with 256, 256, pool more; 2,261,184 weights on CIFAR-10, 1,144,512 in convolutions.

    Source: Frankle and Carbin (2019, arXiv 1803.03635), figure 2, which prints 1.7M; the layers it lists give 2.26M,
    and the densities it reports are those of 2.26M.
    """
    return _built("conv-6", 3, input_shape, outputs, net, seed)


def _built(name: str, pools: int, input_shape: tuple[int, ...], outputs: int, net: Net, seed: int) -> nn.Sequential:
    channels, height, width = image_shape(name, input_shape, outputs, halvings=pools)
    refuse_options(name, net, "norm_scale")
    hidden = net.hidden or _HIDDEN
    if any(not isinstance(units, int) or units < 1 for units in hidden):
        raise UsageError(f"net.hidden is {hidden}; expected widths of hidden layers, each a whole number above 0.")
    layers = Layers()
    number = 0
    for pool, wanted in enumerate(_CHANNELS[:pools], 1):
        for _ in range(2):
            number += 1
            layers[f"conv{number}"] = conv(channels, net.scaled(wanted), 3, bias=True)
            layers[f"{net.activation}{number}"] = activation_of(net.activation)
            channels = net.scaled(wanted)
        layers[f"pool{pool}"] = nn.MaxPool2d(2)
        height, width = height // 2, width // 2
    layers["flatten"] = nn.Flatten()
    widths = (channels * height * width, *map(net.scaled, hidden), outputs)
    add_dense(layers, widths, activation=net.activation, dropout=net.dropout, number=number + 1)
    model = nn.Sequential(layers)
    initialise(model, net, seed, "glorot-normal")
    return model
