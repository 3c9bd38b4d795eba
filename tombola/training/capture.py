"""A step that is recorded once and then only replayed, and the buffers it needs to stand still."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch.optim import Optimizer

from tombola.streams import keys, words

__all__ = ["Keys", "Record", "Replayed", "fix_rate", "recorder", "set_rate"]

Record = Callable[[Callable[[], object]], Callable[[], object]]
"""A function over buffers that stay where they are -> what does the same to them; it is not run meanwhile."""

_WARM = 3  # steps before the recording: libraries choose and allocate what they need, which no graph may do


def recorder(device: torch.device) -> Record | None:
    """What records on this device: a CUDA graph on a GPU; None: nothing does."""
    return _graph if device.type == "cuda" else None


def _graph(function: Callable[[], object]) -> Callable[[], object]:
    stream, graph = torch.cuda.current_stream(), torch.cuda.CUDAGraph()
    try:
        # Other threads of a host program may go on with their own CUDA calls.
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            function()
    except BaseException:
        torch.cuda.set_stream(stream)  # a recording that fails does not leave its stream by itself
        raise
    return graph.replay


class Replayed:
    """Calls a function: the first few times as it is, then as a recording that only moves the contents of buffers.

    A CUDA graph replays the kernels of a whole step by one call, where eager execution launches each from Python. The
    function may read and write only buffers that stay where they are; what it allocates lies in the graph's own memory.
    What cannot be recorded (a loss read on the way, control flow that depends on data) goes on step by step, and
    `refused` says why; a recording that fails has computed nothing, so no step is lost or done twice. The function is
    given with every call and not held: what holds this would hold itself, and its tensors outlive it.

    Args:
        device: of the buffers.
        record: what records, such as the device's own (`recorder`); None: nothing does.

    >>> total = torch.zeros(())
    >>> step = Replayed(torch.device("cpu"), recorder(torch.device("cpu")))
    >>> with step.running():
    ...     for _ in range(5):
    ...         step(lambda: total.add_(1))
    >>> float(total)
    5.0
    """

    def __init__(self, device: torch.device, record: Record | None) -> None:
        self.refused: str | None = None
        self._device, self._record = device, record
        self._replay: Callable[[], object] | None = None
        self._calls = 0

    def __call__(self, function: Callable[[], object]) -> None:
        """Once; always the same function."""
        self._calls += 1
        if self._replay is not None:
            self._replay()
        elif self._record is None or self.refused is not None or self._calls <= _WARM:
            function()
        else:
            self._recorded(self._record, function)

    def _recorded(self, record: Record, function: Callable[[], object]) -> None:
        try:
            self._replay = record(function)
        except Exception as error:  # whatever a user's module does that a recording does not allow
            first = error.__context__ if isinstance(error.__context__, Exception) else error  # not that the end failed
            if isinstance(first, torch.OutOfMemoryError):
                raise first from None
            self.refused = f"{type(first).__name__}: {str(first).splitlines()[0] if str(first) else ''}".rstrip(": ")
            function()
        else:
            self._replay()

    @contextmanager
    def running(self) -> Iterator[None]:
        """On a GPU everything inside happens on a stream of its own, for the default one cannot be recorded."""
        if self._device.type != "cuda":
            yield
            return
        with torch.cuda.device(self._device):
            stream, outer = torch.cuda.Stream(), torch.cuda.current_stream()
            stream.wait_stream(outer)
            try:
                with torch.cuda.stream(stream):
                    yield
            finally:
                outer.wait_stream(stream)
                self._replay = None  # frees the graph's memory; what trains on is recorded anew


class Keys:
    """The keys of a step's noise, for several trainings and purposes, in one tensor that stays where it is.

    Args:
        seeds: one for each training.
        purposes: as in `streams.key`.

    >>> from tombola.streams import key
    >>> found = Keys([7, 8], ["dropout/0"], torch.device("cpu"))
    >>> found.set(5)
    >>> tuple(found.values[1, 0].tolist()) == key(8, "dropout/0", 5)
    True
    """

    def __init__(self, seeds: Sequence[int], purposes: Sequence[str], device: torch.device) -> None:
        self.rows = {purpose: row for row, purpose in enumerate(purposes)}
        self._words = np.array([[words(seed, purpose) for purpose in purposes] for seed in seeds], np.int64)
        self._words = self._words.reshape(len(seeds), len(purposes), 2)
        self.values = torch.zeros(self._words.shape, dtype=torch.int64, device=device)

    def set(self, step: int) -> None:
        """Fill in the keys of a step; `values` has the shape (trainings, purposes, 2)."""
        if self.rows:
            self.values.copy_(torch.from_numpy(keys(self._words, step)))


def fix_rate(optimizer: Optimizer, device: torch.device) -> None:
    """Make the learning rate a tensor that stays where it is, so that a recorded step reads it anew each time.

    The fused kernels read it in float32 on a GPU, and as a double on the CPU.
    """
    dtype = torch.float64 if device.type == "cpu" else torch.float32
    for group in optimizer.param_groups:
        group["lr"] = torch.tensor(float(group["lr"]), dtype=dtype, device=device)
        if "capturable" in group:
            group["capturable"] = device.type == "cuda"


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the learning rate that `fix_rate` has made a tensor."""
    for group in optimizer.param_groups:
        group["lr"].fill_(rate)
