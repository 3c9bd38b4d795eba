"""Looking into a network while it is scored: a masked copy, what its layers read, what its units put out."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from tombola.criteria.base import Probe
from tombola.errors import UsageError
from tombola.granularity.units import spread_units
from tombola.masks import Mask
from tombola.streams import seeded

__all__ = [
    "as_matrix",
    "changing",
    "from_matrix",
    "layers_of",
    "meetings",
    "patches",
    "pooled",
    "reading",
    "scoring",
    "spread",
    "units_last",
    "watching",
]

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@contextmanager
def scoring(model: nn.Module, mask: Mask, probe: Probe) -> Iterator[nn.Module]:
    """A masked copy in evaluation mode to forward and differentiate, without autocast; the model is not touched.

    Global random state is set from the probe's seed, and put back.
    """
    try:
        copied = copy.deepcopy(model).eval()
    except Exception as error:
        raise UsageError(f"{type(model).__name__} cannot be copied to be scored: {error}") from error
    weights = dict(copied.named_parameters())
    with torch.no_grad():
        for name, places in mask.sparse().items():
            weights[name].masked_fill_(~places.to(weights[name].device), 0)
    for weight in weights.values():
        weight.grad = None
        weight.requires_grad_(weight.is_floating_point())
    device = next(iter(weights.values())).device.type
    with seeded(probe.seed), torch.enable_grad(), torch.autocast(device, enabled=False), _differentiable(copied):
        yield copied


@contextmanager
def _differentiable(model: nn.Module) -> Iterator[None]:
    """Without cuDNN for recurrent networks: its kernels have no backward in evaluation mode, and no second one."""
    before = torch.backends.cudnn.enabled
    off = before and any(isinstance(m, nn.RNNBase) for m in model.modules())
    try:
        torch.backends.cudnn.enabled = before and not off
        yield
    finally:
        torch.backends.cudnn.enabled = before


def layers_of(model: nn.Module, mask: Mask, name: str, *, transposed: bool = False) -> dict[str, nn.Module]:
    """Masked weight -> its layer, where that is a Linear, a convolution or Transformers' `Conv1D`.

    Args:
        name: of the criterion, for errors.
        transposed: transposed convolutions too, whose units can be watched though nothing says what each weight reads.

    Raises:
        UsageError: a masked weight belongs to a layer of another kind.
    """
    found = {}
    for weight in mask:
        owner, _, last = weight.rpartition(".")
        layer = model.get_submodule(owner)
        known = isinstance(layer, (*_LAYERS, nn.modules.conv._ConvTransposeNd) if transposed else _LAYERS)
        if last != "weight" or not (known or type(layer).__name__ == "Conv1D"):
            raise UsageError(
                f"The criterion {name} looks at what Linear and convolution layers read; {weight!r} belongs to a "
                f"{type(layer).__name__}. Leave it out with protect=({owner + '.*'!r},), or use another criterion."
            )
        found[weight] = layer
    return found


@contextmanager
def reading(layers: Mapping[str, nn.Module], see: Callable[[str, Tensor, Tensor], None]) -> Iterator[None]:
    """Call `see(weight, input, output)` at every forward of the layers, with detached tensors."""

    def hook(weight: str) -> Callable[..., None]:
        return lambda layer, given, out: see(weight, given[0].detach(), out.detach())

    with ExitStack() as hooks:
        for weight, layer in layers.items():
            hooks.callback(layer.register_forward_hook(hook(weight)).remove)
        yield


def as_matrix(layer: nn.Module, weight: Tensor) -> Tensor:
    """A weight as (groups, units, fan-in): a layer without groups has one."""
    if type(layer).__name__ == "Conv1D":
        return weight.t()[None]
    groups = getattr(layer, "groups", 1)
    return weight.reshape(groups, weight.shape[0] // groups, -1)


def from_matrix(layer: nn.Module, matrix: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A tensor (groups, units, fan-in) in the weight's own shape."""
    return matrix[0].t().contiguous() if type(layer).__name__ == "Conv1D" else matrix.reshape(shape)


def patches(layer: nn.Module, x: Tensor) -> Tensor:
    """What each unit reads, as (groups, n, fan-in): rows are examples (and positions), columns those of `as_matrix`.

    Args:
        x: input of the layer: (..., inputs) for Linear, (n, channels, *size) for convolutions (or without n).
    """
    if not isinstance(layer, nn.modules.conv._ConvNd):
        return x.reshape(1, -1, x.shape[-1])
    dims = len(layer.kernel_size)
    x = x if x.ndim == dims + 2 else x[None]
    x = F.pad(x, _padding(layer), mode="constant" if layer.padding_mode == "zeros" else layer.padding_mode)
    for dim, (size, stride, dilation) in enumerate(
        zip(layer.kernel_size, layer.stride, layer.dilation, strict=True), start=2
    ):
        x = x.unfold(dim, dilation * (size - 1) + 1, stride)[..., ::dilation]
    # (n, channels, *positions, *kernel) -> (groups, n * positions, channels of a group * kernel)
    n, channels, groups = x.shape[0], x.shape[1], layer.groups
    x = x.reshape(n, groups, channels // groups, -1, *layer.kernel_size)
    x = x.movedim(1, 0).movedim(3, 2)
    return x.reshape(groups, n * x.shape[2], -1)


def _padding(layer: nn.modules.conv._ConvNd) -> list[int]:
    """For `F.pad`: last dimension first, before and after."""
    if isinstance(layer.padding, str):
        spans = [d * (k - 1) if layer.padding == "same" else 0
                 for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]  # fmt: skip
        return [side for span in reversed(spans) for side in (span // 2, span - span // 2)]
    return [side for padding in reversed(layer.padding) for side in (padding, padding)]


_PASSED = {
    "dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout",
    *(f"{kind}_pool{n}d" for kind in ("max", "avg", "lp", "adaptive_max", "adaptive_avg") for n in (1, 2, 3)),
}  # fmt: skip
_NORMS = {"batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm"}
_NONLINEAR = {
    "relu", "leaky_relu", "prelu", "rrelu", "elu", "selu", "celu", "gelu", "silu", "mish", "hardswish", "relu6",
    "hardtanh", "clamp", "clip", "threshold", "tanh", "sigmoid", "hardsigmoid", "log_sigmoid", "softsign", "softplus",
    "hardshrink", "softshrink", "tanhshrink",
}  # fmt: skip


class _Follow(TorchFunctionMode):
    """Follows the output of each layer through normalisation and pooling, up to the first nonlinearity.

    A weight is met at its layer's output, and again behind every normalisation and the nonlinearity.
    """

    def __init__(self, change: Callable[[str, int, Tensor], None] = lambda weight, meeting, out: None) -> None:
        super().__init__()
        self.found: dict[str, Tensor] = {}
        self.ends: dict[str, dict[int, int]] = {}  # weight -> call of its layer -> the meeting with its activations
        self._awaited: dict[int, tuple[str, int, Tensor]] = {}  # held, so that no id is used again
        self._met: Counter[str] = Counter()
        self._change = change

    def taken(self) -> dict[str, Tensor]:
        found = self.found
        self.found, self.ends, self._awaited, self._met = {}, {}, {}, Counter()
        return found

    def meet(self, weight: str, out: Tensor, call: int | None = None, *, last: bool = False) -> None:
        """`out` is now the best that is known of what the units put out; call: of the layer, None: a new one."""
        calls = self.ends.setdefault(weight, {})
        call = len(calls) if call is None else call
        self._met[weight] += 1
        calls[call] = self._met[weight]
        self._change(weight, self._met[weight], out)
        self.found[weight] = out
        if not last:
            self._awaited[id(out)] = weight, call, out

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given, name = args[0] if args else kwargs.get("input"), getattr(func, "__name__", "")
        plain, writes = name.strip("_"), _writes(name) or bool(kwargs.get("inplace"))
        followed = plain in _PASSED or plain in _NORMS or plain in _NONLINEAR
        awaited = self._awaited.pop(id(given), None) if followed or writes else None
        if writes and not (awaited and followed):  # `out += shortcut`: the object stays, what it holds is another thing
            self._save(given)
        out = func(*args, **kwargs)
        if awaited and followed and isinstance(out, Tensor):
            weight, call, _ = awaited
            if plain in _PASSED:
                self._awaited[id(out)] = weight, call, out
            else:
                self.meet(weight, out, call, last=plain in _NONLINEAR)
        return out

    def _save(self, given: object) -> None:
        """What was found is about to be written over."""
        for weight, found in self.found.items():
            if found is given:
                self.found[weight] = found.clone()


def _writes(name: str) -> bool:
    """Whether a function of this name writes into its first argument."""
    if name.startswith("__"):
        return name == "__setitem__" or (name.startswith("__i") and name not in {"__index__", "__int__", "__invert__"})
    return name.endswith("_")


@contextmanager
def _following(layers: Mapping[str, nn.Module], follow: _Follow) -> Iterator[None]:
    def hook(weight: str) -> Callable[..., None]:
        return lambda layer, given, out: follow.meet(weight, out)

    with ExitStack() as hooks:
        for weight, layer in layers.items():
            hooks.callback(layer.register_forward_hook(hook(weight)).remove)
        with follow:
            yield


@contextmanager
def watching(layers: Mapping[str, nn.Module]) -> Iterator[Callable[[], dict[str, Tensor]]]:
    """What the units of each layer put out: the layer's output behind the normalisation and nonlinearity that follow.

    Ends at the first nonlinearity, and at anything that is no normalisation, pooling or dropout (a sum, a reshape).
    Without a nonlinearity it is what the last normalisation, or the layer itself, puts out.

    Yields a function that gives weight -> activations of the last call of the layer, with the units in the last
    dimension of Linear layers and in dimension 1 of convolutions, and forgets them.
    """
    follow = _Follow()
    with _following(layers, follow):
        yield follow.taken


def meetings(layers: Mapping[str, nn.Module], model: nn.Module, x: Tensor) -> tuple[Tensor, dict[str, frozenset[int]]]:
    """The outputs of a forward, and weight -> at which of its meetings it has its activations, for `changing`."""
    follow = _Follow()
    with _following(layers, follow):
        outputs: Tensor = model(x)
    return outputs, {weight: frozenset(calls.values()) for weight, calls in follow.ends.items()}


@contextmanager
def changing(
    layers: Mapping[str, nn.Module], at: Mapping[str, frozenset[int]], change: Callable[[str, Tensor], None]
) -> Iterator[None]:
    """For one forward: `change(weight, activations)` may write into what the units put out before others read it.

    Args:
        at: of `meetings`, for the same network and input.
    """

    def met(weight: str, meeting: int, out: Tensor) -> None:
        if meeting in at[weight]:
            change(weight, out)

    with _following(layers, _Follow(met)):
        yield


def units_last(layer: nn.Module, activations: Tensor) -> Tensor:
    """Activations as (n, units): rows are examples (and positions)."""
    if isinstance(layer, nn.modules.conv._ConvNd):
        activations = activations.movedim(-len(layer.kernel_size) - 1, -1)
    return activations.reshape(-1, activations.shape[-1])


def pooled(layer: nn.Module, activations: Tensor) -> Tensor:
    """Activations as (n, units): rows are examples; the largest over the positions."""
    if isinstance(layer, nn.modules.conv._ConvNd):
        batched = activations if activations.ndim == len(layer.kernel_size) + 2 else activations[None]
        return batched.flatten(2).amax(-1)
    return activations.movedim(-1, 1).flatten(2).amax(-1) if activations.ndim > 2 else activations


def spread(units: Tensor, model: nn.Module, name: str, shape: tuple[int, ...]) -> Tensor:
    """The score of each unit at every weight that leads into it, float64; equal units stay in order."""
    return spread_units(units, model, name, shape)
