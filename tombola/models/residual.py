"""Residual networks: for small images (ResNet-20, -56, and a depthwise-separable twin), and for large ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from tombola.models.initializers import initialise
from tombola.models.layers import Layers, conv, image_shape, linear, norm, refuse_options
from tombola.models.net import Net

__all__ = ["Residual", "resnet_18", "resnet_20", "resnet_50", "resnet_56", "separable_20"]


class Residual(nn.Module):
    """y = relu(body(x) + shortcut(x)).

    Args:
        body: (n, inputs, height, width) -> (n, outputs, ...).
        shortcut: the identity, or a projection to the body's shape.

    Source: He et al. (2015, arXiv 1512.03385).
    """

    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut, self.relu = body, shortcut, nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """The sum of both paths, rectified."""
        y: Tensor = self.relu(self.body(x) + self.shortcut(x))
        return y


def _basic(inputs: int, width: int, stride: int) -> nn.Sequential:
    layers = Layers(conv1=conv(inputs, width, 3, stride=stride), norm1=norm(width), relu1=nn.ReLU())
    layers |= Layers(conv2=conv(width, width, 3), norm2=norm(width))
    return nn.Sequential(layers)


def _bottleneck(inputs: int, width: int, stride: int) -> nn.Sequential:
    layers = Layers(conv1=conv(inputs, width, 1), norm1=norm(width), relu1=nn.ReLU())
    layers |= Layers(conv2=conv(width, width, 3, stride=stride), norm2=norm(width), relu2=nn.ReLU())
    layers |= Layers(conv3=conv(width, 4 * width, 1), norm3=norm(4 * width))
    return nn.Sequential(layers)


def _separable(inputs: int, width: int, stride: int) -> nn.Sequential:
    layers = Layers()
    for number, (channels, step) in enumerate(((inputs, stride), (width, 1)), 1):
        layers[f"depthwise{number}"] = conv(channels, channels, 3, stride=step, groups=channels)
        layers[f"depthwise_norm{number}"] = norm(channels)
        layers[f"depthwise_relu{number}"] = nn.ReLU()
        layers[f"pointwise{number}"] = conv(channels, width, 1)
        layers[f"norm{number}"] = norm(width)
        if number == 1:
            layers["relu1"] = nn.ReLU()
    return nn.Sequential(layers)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Form:
    """What makes a residual network.

    Args:
        body: (input channels, width, stride) -> the layers of a block.
        blocks: of each stage; widths double from stage to stage, and a stage but the first halves the image.
        width: of the first stage.
        expansion: a block puts out so many times its width.
        large: begins with a 7 x 7 convolution and a pool that quarter the image, instead of a 3 x 3 convolution.
    """

    name: str
    body: Callable[[int, int, int], nn.Sequential]
    blocks: tuple[int, ...]
    width: int = 16
    expansion: int = 1
    large: bool = False


def resnet_20(input_shape: tuple[int, ...], outputs: int, net: Net, seed: int) -> nn.Module:
    """ResNet-20: 3 stages of 3 blocks with 16, 32, 64 channels; 270,896 weights on CIFAR-10, "ResNet-18" of the paper.

    Convolutions are 3 x 3 without bias, each with batch norm; where a block changes the shape, its shortcut is a 1 x 1
    convolution with batch norm (2,560 weights). The mean over all places and one linear layer follow. Weights are
    Kaiming normal. Images of any size.

    Source: He et al. (2015, arXiv 1512.03385), section 4.2, who pad shortcuts with zeros there; Frankle and Carbin
    (2019, arXiv 1803.03635) project.
    """
    return _built(_Form(name="resnet-20", body=_basic, blocks=(3, 3, 3)), input_shape, outputs, net, seed)


def resnet_56(input_shape: tuple[int, ...], outputs: int, net: Net, seed: int) -> nn.Module:
    """ResNet-56: as ResNet-20 with 9 blocks in each stage.

    Source: He et al. (2015, arXiv 1512.03385), section 4.2.
    """
    return _built(_Form(name="resnet-56", body=_basic, blocks=(9, 9, 9)), input_shape, outputs, net, seed)


def separable_20(input_shape: tuple[int, ...], outputs: int, net: Net, seed: int) -> nn.Module:
    """ResNet-20 whose 3 x 3 convolutions are 3 x 3 in each channel and then 1 x 1 over channels.

    Both have batch norm and ReLU. 9 C + C D weights stand in place of 9 C D. The first convolution stays whole, as in
    MobileNet: on a grey image its depthwise form would be a single filter.

    Source: Howard et al. (2017, arXiv 1704.04861), in the blocks of He et al. (2015, arXiv 1512.03385).
    """
    return _built(_Form(name="separable-20", body=_separable, blocks=(3, 3, 3)), input_shape, outputs, net, seed)


def resnet_18(input_shape: tuple[int, ...], outputs: int, net: Net, seed: int) -> nn.Module:
    """ResNet-18 for large images: 4 stages of 2 blocks with 64 to 512 channels; 11,689,512 parameters at 1,000 outputs.

    A 7 x 7 convolution of stride 2 and a 3 x 3 pool of stride 2 come first. Images of any size; made for 224 x 224.

    Source: He et al. (2015, arXiv 1512.03385), section 4.1.
    """
    form = _Form(name="resnet-18", body=_basic, blocks=(2, 2, 2, 2), width=64, large=True)
    return _built(form, input_shape, outputs, net, seed)


def resnet_50(input_shape: tuple[int, ...], outputs: int, net: Net, seed: int) -> nn.Module:
    """ResNet-50: stages of 3, 4, 6, 3 bottlenecks of 64 to 512 channels; 25,557,032 parameters at 1,000 outputs.

    A bottleneck is 1 x 1, 3 x 3, 1 x 1 with four times as many channels at its end. Begins as ResNet-18.

    Source: He et al. (2015, arXiv 1512.03385), section 4.1, who put a stage's stride into the first 1 x 1 convolution;
    here it is in the 3 x 3 one, as in torchvision.
    """
    form = _Form(name="resnet-50", body=_bottleneck, blocks=(3, 4, 6, 3), width=64, expansion=4, large=True)
    return _built(form, input_shape, outputs, net, seed)


def _built(form: _Form, input_shape: tuple[int, ...], outputs: int, net: Net, seed: int) -> nn.Sequential:
    channels, _, _ = image_shape(form.name, input_shape, outputs)
    refuse_options(form.name, net, "hidden", "activation", "dropout")
    width = net.scaled(form.width)
    size, stride = (7, 2) if form.large else (3, 1)
    layers = Layers(conv=conv(channels, width, size, stride=stride), norm=norm(width), relu=nn.ReLU())
    if form.large:
        layers["pool1"] = nn.MaxPool2d(3, stride=2, padding=1)
    channels = width
    for stage, blocks in enumerate(form.blocks):
        width = net.scaled(form.width * 2**stage)
        made = []
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            shortcut = _shortcut(channels, form.expansion * width, stride)
            made.append(Residual(form.body(channels, width, stride), shortcut))
            channels = form.expansion * width
        layers[f"stage{stage + 1}"] = nn.Sequential(*made)
    layers |= Layers(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), output=linear(channels, outputs))
    model = nn.Sequential(layers)
    initialise(model, net, seed, "kaiming-normal")
    return model


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    if inputs == outputs and stride == 1:
        return nn.Identity()
    return nn.Sequential(Layers(conv=conv(inputs, outputs, 1, stride=stride), norm=norm(outputs)))
