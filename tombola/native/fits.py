"""Whether the native trainer fits a training, and if not, which part of it is to blame."""

from __future__ import annotations

import torch
from torch import nn

from tombola.compiled import absent, compiled
from tombola.native.data import source_of
from tombola.native.kernels import Opened, formats_of, machine_of
from tombola.native.links import Unknown
from tombola.native.structure import links_of
from tombola.requests import Fit
from tombola.training.sets import Examples, Sets
from tombola.training.settings import Training

__all__ = ["beyond", "unwise", "why_not"]

_EXAMPLES = 16  # that are passed through both
_TOLERANCE = 1e-3


def beyond(fit: Fit) -> str | None:
    """What a fit asks for that the kernels do not do, as a clause; None: nothing."""
    if fit.frozen is not None:
        return "its pruned places stand at constants"
    if fit.dynamics is not None:
        return "it prunes while it trains"
    return f"it gathers {' and '.join(fit.gather)} along the way" if fit.gather else None


def _asked_of(training: Training) -> str | None:
    """What a training asks for that the kernels do not do, as a clause; None: nothing. Memory format is their own."""
    if training.augment != "none":
        return "its images are augmented"
    if training.precision != "float32":
        return f"it computes in float32, and {training.precision} was asked for"
    return "its batches are cut into parts" if training.parts > 1 else None


def unwise(model: nn.Module) -> str | None:
    """Why torch is to be preferred where nobody asked for an engine, though the native trainer could; None: nothing.

    A dense convolution takes torch's time or up to twice that, a sparse one a fraction of it, and a ladder of tickets
    gains as a whole (benchmarks/native_conv.py): so an experiment is trained natively from its dense network on. That
    was measured for AVX-512 and AVX2 alone.

    >>> unwise(nn.Linear(3, 2)) is None
    True
    """
    library = compiled()
    if library is None or library.name != "generic" or not any(isinstance(m, nn.Conv2d) for m in model.modules()):
        return None
    return "it has convolutions, and these kernels use neither AVX-512 nor AVX2"


def why_not(model: nn.Module, sets: Sets, training: Training) -> str | None:
    """Why the native trainer cannot train `model` on these sets, as a clause; None: it can.

    It knows convolutions of 3 x 3 with ReLU and max-pools of 2 x 2, and behind them chains of Linear layers with ReLU,
    tanh or nothing between, and counter dropout, in float32 on the CPU (`tombola.native.structure.links_of`). At last,
    a few examples pass through module and kernels: where their outputs differ, the module is not what it seems.

    >>> from tombola.models.fully_connected import mlp
    >>> links_of(mlp((4, 3, 2)))[0].activation
    'relu'
    """
    library = compiled()
    if library is None:
        return absent()
    asked = _asked_of(training)
    if asked is not None:
        return asked
    if sets.train.x.device.type != "cpu":
        return f"the data are on {sets.train.x.device}, and it trains on the CPU"
    try:
        links = links_of(model, sets.train.x.shape[1:])
    except Unknown as unknown:
        return str(unknown)
    source = source_of(sets, images=links[0].image is not None)
    if source.features != links[0].inputs:
        return f"{links[0].weight!r} takes {links[0].inputs} inputs and an example has {source.features}"
    wanted = sets.classes or max(1, sets.train.y[0].numel())
    if links[-1].rows != wanted:
        return f"{links[-1].weight!r} has {links[-1].rows} outputs for targets of {wanted}"
    if not sets.classes and not sets.train.y.is_floating_point():
        return f"the targets are {sets.train.y.dtype}"
    formats = formats_of(links, {}, machine_of(library), ink=None)
    scale, shift = (sets.affine.scale[0], sets.affine.shift[0]) if source.packed else (1.0, 0.0)
    opened = Opened(library, links, {}, order=source.order, formats=formats, options={"scale": scale, "shift": shift})
    opened.layout.pack(model.state_dict(), opened.param)
    few = Examples(x=sets.train.x[:_EXAMPLES], y=sets.train.y[:_EXAMPLES])
    ours = opened.predict(source.view(few).structure)
    mode = model.training
    with torch.no_grad():
        theirs = model.eval()(sets.inputs(few.x, torch.float32)).view(ours.shape)
    model.train(mode)
    difference = float((ours - theirs).abs().max())
    if not difference <= _TOLERANCE * (1 + float(theirs.abs().max())):
        return (
            f"{type(model).__name__} computes something else than its layers say (outputs differ by {difference:.1e})"
        )
    return None
