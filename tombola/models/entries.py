"""The named networks and initialisations, listed without importing torch."""

from __future__ import annotations

from tombola.registry import Entry

__all__ = ["INITIALIZERS", "NETWORKS"]

_FRANKLE = "Frankle and Carbin 2019, arXiv 1803.03635"
_GLOROT = "Glorot and Bengio 2010"
_HE = "He et al. 2015, arXiv 1512.03385"
_KAIMING = "He et al. 2015, arXiv 1502.01852"
_SIMONYAN = "Simonyan and Zisserman 2015, arXiv 1409.1556"

NETWORKS: dict[str, Entry] = {
    "lenet-300-100": Entry(
        home="tombola.models.fully_connected:lenet_300_100",
        summary="two hidden layers of 300 and 100 units, any input",
        source="LeCun et al. 1998",
    ),
    "mlp": Entry(
        home="tombola.models.fully_connected:build_mlp", summary="hidden layers of the widths net.hidden, any input"
    ),
    "conv-2": Entry(
        home="tombola.models.convolutional:conv_2",
        summary="two convolutions, one pool, two hidden layers; images of 2 x 2 or more",
        source=_FRANKLE,
    ),
    "conv-4": Entry(
        home="tombola.models.convolutional:conv_4",
        summary="four convolutions, two pools, two hidden layers; images of 4 x 4 or more",
        source=_FRANKLE,
    ),
    "conv-6": Entry(
        home="tombola.models.convolutional:conv_6",
        summary="six convolutions, three pools, two hidden layers; images of 8 x 8 or more",
        source=_FRANKLE,
    ),
    "resnet-20": Entry(
        home="tombola.models.residual:resnet_20",
        summary="residual network of 20 layers for small images, 16 to 64 channels",
        source=_HE,
    ),
    "resnet-56": Entry(
        home="tombola.models.residual:resnet_56",
        summary="residual network of 56 layers for small images, 16 to 64 channels",
        source=_HE,
    ),
    "vgg-16": Entry(
        home="tombola.models.vgg:vgg_16",
        summary="13 convolutions with batch norm, four pools; images of 16 x 16 or more",
        source=_SIMONYAN,
    ),
    "vgg-19": Entry(
        home="tombola.models.vgg:vgg_19",
        summary="16 convolutions with batch norm, four pools; images of 16 x 16 or more",
        source=_SIMONYAN,
    ),
    "resnet-18": Entry(
        home="tombola.models.residual:resnet_18",
        summary="residual network of 18 layers for large images, 64 to 512 channels",
        source=_HE,
    ),
    "resnet-50": Entry(
        home="tombola.models.residual:resnet_50",
        summary="residual network of 50 layers in bottlenecks for large images, 256 to 2,048 channels",
        source=_HE,
    ),
    "separable-20": Entry(
        home="tombola.models.residual:separable_20",
        summary="resnet-20 with depthwise-separable convolutions",
        source="Howard et al. 2017, arXiv 1704.04861",
    ),
}
"""What `--model` takes by name."""

INITIALIZERS: dict[str, Entry] = {
    "glorot-normal": Entry(
        home="tombola.models.initializers:glorot_normal",
        summary="normal, variance 2 / (fan_in + fan_out)",
        source=_GLOROT,
    ),
    "glorot-uniform": Entry(
        home="tombola.models.initializers:glorot_uniform",
        summary="uniform, variance 2 / (fan_in + fan_out)",
        source=_GLOROT,
    ),
    "kaiming-normal": Entry(
        home="tombola.models.initializers:kaiming_normal", summary="normal, variance 2 / fan_in", source=_KAIMING
    ),
    "kaiming-uniform": Entry(
        home="tombola.models.initializers:kaiming_uniform", summary="uniform, variance 2 / fan_in", source=_KAIMING
    ),
    "gaussian": Entry(
        home="tombola.models.initializers:Gaussian",
        summary="normal, the same standard deviation in every layer",
        source=_FRANKLE,
    ),
    "orthogonal": Entry(
        home="tombola.models.initializers:orthogonal",
        summary="rows or columns are orthonormal",
        source="Saxe et al. 2014, arXiv 1312.6120",
    ),
}
"""What `--net.initializer` takes."""
