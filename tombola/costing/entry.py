"""`tombola.cost`: the honest table of what a mask gains and what not."""

from __future__ import annotations

import copy
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tombola.costing.clock import one_setting, side_by_side
from tombola.costing.forms import Form, in_onnx, in_torch, missing_packages, native
from tombola.costing.report import Cost, Timing
from tombola.costing.sizes import sizes
from tombola.errors import UsageError
from tombola.masks import Mask, a_mask
from tombola.models.costs import uses_per_weight
from tombola.shrinking.checking import as_arguments, masked_copy
from tombola.shrinking.effective import Effective, effective
from tombola.shrinking.entry import shrink
from tombola.shrinking.tracing import tensors_in
from tombola.training.places import bare
from tombola.training.scale import check_together

__all__ = ["cost"]


def cost(
    model: nn.Module,
    mask: Mask,
    example: Tensor | Sequence[object] | dict[str, object],
    *,
    rounds: int = 30,
    onnx: bool | None = None,
    threads: int | None = None,
) -> Cost:
    """What `model` costs under `mask`: weights, multiply-adds, bytes, and times measured here and now.

    Timed are, in turn in every round: the dense network; the masked one, whose zeros torch multiplies too; the smaller
    one of `tombola.shrink`, also with unread inputs gathered; the native sparse runner, where its kernels know the
    network; ONNX Runtime on the masked network. A gain is time of the dense network / time in the same round; one
    whose 5th and 95th percentile lie on both sides of 1 is called not measurable.

    Multiply-adds are of weights in linear, bilinear, convolutional, recurrent and attention layers; those between
    activations are not counted.

    Args:
        model: stays as it is; it is copied and run in eval mode.
        mask: its tensors are named as by `model.named_parameters()`.
        example: what the model is called with: a tensor, a tuple of arguments, or a dict of arguments by name. Its
            batch size, the first dimension of its first tensor, is the one that is timed.
        rounds: timed rounds, at least 5; each takes each form a few milliseconds, or one call where that is longer.
        onnx: time ONNX Runtime; None: where the extra `onnx` is installed.
        threads: for torch and ONNX Runtime; None: as torch is set. The native runner uses one.

    Returns:
        The numbers; `print` shows them as a table, with what one gains and what not in a sentence.

    Raises:
        UsageError: the mask or the example does not fit the model, the mask is empty, a number is out of range, or
            `onnx=True` without the extra.

    >>> net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
    >>> mask = Mask({"0.weight": torch.eye(64) > 0, "2.weight": torch.ones(2, 64) > 0})
    >>> found = cost(net, mask, torch.rand(1, 64), rounds=5, onnx=False)
    >>> found.parameters, found.kept, found.effective, found.multiply_adds, found.kept_multiply_adds
    (4290, 192, 192, 4224, 192)
    """
    _require(mask, rounds, onnx, threads)
    shrunk = shrink(model, mask, example)  # says what does not fit
    gathered = shrink(model, mask, example, inputs="gather")
    reached = effective(model, mask, example)
    arguments = as_arguments(example)
    dense, masked = copy.deepcopy(bare(model)).eval(), masked_copy(bare(model), mask)
    batch = next((len(tensor) for tensor in tensors_in(list(arguments)) if tensor.ndim), 1)
    uses = uses_per_weight(masked, *arguments[0], **arguments[1])
    weights = dict(dense.named_parameters())
    counted = {name: (weights[name].numel(), mask.kept.get(name, weights[name].numel())) for name in uses}
    used = torch.get_num_threads() if threads is None else threads
    parameters = shrunk.before
    forms = {
        "dense": Timing(parameters=parameters),
        "masked": Timing(parameters=parameters),
        "shrunk": Timing(parameters=shrunk.after, why=shrunk.fallback),
        "gathered": Timing(parameters=gathered.after, why=gathered.fallback),
        "native": Timing(parameters=parameters - mask.total + mask.alive),
        "onnx": Timing(parameters=parameters),
    }
    calls: dict[str, Form] = {
        "dense": in_torch(dense, arguments),
        "masked": in_torch(masked, arguments),
        "shrunk": in_torch(shrunk.model, arguments),
        "gathered": in_torch(gathered.model, arguments),
        "native": native(masked, arguments),
        "onnx": "it was not asked for" if onnx is False else in_onnx(masked, arguments, used),
    }
    if gathered.after == shrunk.after:
        calls["gathered"] = gathered.fallback or "every input is read, so it is the one above"
    for name, call in calls.items():
        if isinstance(call, str):
            forms[name] = Timing(parameters=forms[name].parameters if name == "gathered" else None, why=call)
    with one_setting(used):
        taken = side_by_side({name: call for name, call in calls.items() if not isinstance(call, str)}, rounds)
    return Cost(
        model=type(bare(model)).__name__,
        batch=batch,
        threads=used,
        rounds=rounds,
        machine=_machine(),
        parameters=parameters,
        prunable=mask.total,
        kept=mask.alive,
        effective=None if reached.mask is None else reached.mask.alive,
        effective_note=_note(reached),
        multiply_adds=sum(uses[name] * whole for name, (whole, _) in counted.items()) // batch,
        kept_multiply_adds=sum(uses[name] * kept for name, (_, kept) in counted.items()) // batch,
        uncounted=tuple(name for name in mask if name not in uses),
        sizes=sizes(masked, mask),
        timings={name: _timing(timing, taken, name) for name, timing in forms.items()},
    )


def _require(mask: Mask, rounds: int, onnx: bool | None, threads: int | None) -> None:
    if not a_mask(mask).total:
        raise UsageError("The mask names no weights, so there is nothing to weigh up; give one of Mask.dense or prune.")
    if type(rounds) is not int or rounds < 5:
        raise UsageError(f"rounds={rounds!r}; expected a whole number of at least 5.")
    check_together(threads=threads)
    if onnx and (missing := missing_packages()):
        raise UsageError(f"onnx=True, but {missing}.")


def _note(reached: Effective) -> str:
    if reached.mask is None:
        return f"unknown: {reached.reason}"
    if not reached.whole:
        return ""
    names = list(reached.whole)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"at most so many; not all is followed in {', '.join(names[:3])}{more} ({reached.whole[names[0]]})"


def _timing(form: Timing, taken: Mapping[str, Sequence[float]], name: str) -> Timing:
    if name not in taken:
        return form
    seconds = np.array(taken[name])
    gains = np.array(taken["dense"]) / seconds
    low, middle, high = (float(number) for number in np.percentile(seconds, (5, 50, 95)))
    worst, gain, best = (float(number) for number in np.percentile(gains, (5, 50, 95)))
    return Timing(
        parameters=form.parameters,
        seconds=middle,
        low=low,
        high=high,
        gain=gain,
        gain_low=worst,
        gain_high=best,
        why=form.why,
    )


def _machine() -> str:
    """Processor and torch version."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(errors="replace").splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, torch {torch.__version__}"
