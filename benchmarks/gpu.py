"""Steps per second on a GPU: eager, recorded (a CUDA graph), stacked, and both; and how far it agrees with the CPU.

    python benchmarks/gpu.py                    needs a CUDA device; without one it says so and ends
    python benchmarks/gpu.py --device cpu       the same paths, small: a check that they run, no measurement

Each recipe's network is trained on a mask that magnitude leaves at 20 % of its weights. A step of a stack counts once
for each lane. The agreement is that of a few steps from the same start: the share of places in which the masks cut
from the trained weights are equal, and the largest difference between the curves. Where the data are not there, noise
of their shape is trained on, which takes as long.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

if __name__ == "__main__":
    # This folder holds a select.py and must not stand in for the standard library's.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch

from benchmarks.common import machine, one_thread, row
from tombola.data import Dataset, from_arrays, load
from tombola.data.files import data_folder
from tombola.errors import DataError, UsageError
from tombola.masks import Mask
from tombola.models.registry import MODELS
from tombola.pruning import prune
from tombola.recipes import Recipe, find_recipe
from tombola.requests import Fit
from tombola.starts import Init
from tombola.streams import stream
from tombola.training.captured import Captured
from tombola.training.device import resolve_device
from tombola.training.engine import Engine
from tombola.training.loop import Measured, silent, train
from tombola.training.reference import Reference
from tombola.training.sets import Sets, prepare
from tombola.training.settings import Training
from tombola.training.stacked import Stack
from tombola.training.stacking import lanes_for, peak_memory, why_not_stacked
from tombola.training.state import state_of

RECIPES = ("cifar-resnet20", "cifar-conv2", "mnist-lenet")
DENSITY = 0.2
SHAPES = {"cifar-10": (3, 32, 32), "mnist": (1, 28, 28), "fashion-mnist": (1, 28, 28)}


def dataset(name: str, examples: int) -> Dataset:
    """The data where they are there, else noise of the same shape; at most so many training examples."""
    try:
        if name not in SHAPES or not data_folder().is_dir():
            raise DataError("not there")
        found = load(name, quiet=True)
        x, y, x_test, y_test = found.x_train, found.y_train, found.x_test, found.y_test
    except DataError:
        if name not in SHAPES:
            return load(name, quiet=True)
        noise, shape = stream(0, "benchmark/gpu"), SHAPES[name]
        x = torch.randint(0, 256, (examples, *shape), dtype=torch.uint8, generator=noise)
        y = torch.randint(0, 10, (examples,), generator=noise)
        x_test, y_test, name = x, y, "noise"
    return from_arrays(name, x[:examples], y[:examples], x_test[:examples], y_test[:examples], classes=10)


class Subject:
    """A recipe's network and data on a device, and one masked fit of it."""

    def __init__(self, recipe: Recipe, data: Dataset, training: Training, device: torch.device) -> None:
        self.recipe, self.data, self.training, self.device = recipe, data, training, device
        self.sets: Sets = prepare(data, training, device)
        start = MODELS[recipe.model](data.input_shape, data.classes, recipe.net, 0)
        self.dense = Mask.dense(start)
        self.mask = prune(start, self.dense, density=DENSITY)
        self.fit = Fit(start=Init(seed=0), mask=self.mask, last=training.steps, order=0, noise=0)

    def model(self) -> torch.nn.Module:
        """The network with its start weights."""
        return MODELS[self.recipe.model](self.data.input_shape, self.data.classes, self.recipe.net, 0).to(self.device)

    def stack(self, lanes: int, *, capture: bool) -> Engine:
        """So many fits that differ in their data order."""
        model = self.model()
        fits = [replace(self.fit, order=lane, noise=lane) for lane in range(lanes)]
        starts = [state_of(model)] * lanes
        stack = Stack(model, fits, starts, self.sets, self.training, self.dense, capture=capture)
        return stack.lanes[0]

    def speed(self, engine: Engine, warm: int) -> tuple[float, str]:
        """Steps per second after some that are not timed, and why nothing was recorded, if that is so."""
        with engine.running():
            engine.advance(0, warm)
            self.settle()
            begun = time.perf_counter()
            engine.advance(warm, self.training.steps)
            self.settle()
            seconds = time.perf_counter() - begun
        return (self.training.steps - warm) / seconds, engine.provenance.get("not_captured", "")

    def settle(self) -> None:
        """Wait until the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def trained(self, *, captured: bool) -> tuple[Measured, Mask]:
        """A few steps, and the mask that is cut from the weights they end with."""
        model = self.model()
        measured = train(
            model,
            self.fit,
            sets=self.sets,
            training=self.training,
            prunable=self.dense,
            events=silent(),
            engine=Captured if captured else Reference,
        )
        return measured, prune(model.cpu(), self.mask, density=DENSITY / 2)


def agreement(one: tuple[Measured, Mask], other: tuple[Measured, Mask]) -> tuple[float, float]:
    """(share of equal places, largest difference of a validation loss)."""
    equal = sum(int((one[1][name] == other[1][name]).sum()) for name in one[1])
    losses = [
        abs((a.validation_loss or 0.0) - (b.validation_loss or 0.0))
        for a, b in zip(one[0].points, other[0].points, strict=True)
    ]
    return equal / one[1].total, max(losses)


def measure(name: str, device: torch.device, given: argparse.Namespace) -> None:
    """Prints the table of one recipe."""
    recipe = find_recipe(name)
    data = dataset(recipe.data, given.examples)
    batch = min(recipe.batch_size, given.batch)
    training = replace(recipe.training(), steps=given.steps, batch_size=batch, eval_every=given.steps, validation=0)
    subject = Subject(recipe, data, training, device)
    lanes = given.lanes
    if not lanes:
        measured = peak_memory(device)
        lanes = min(16, lanes_for(subject.model(), subject.sets, training, measure=measured))
    print(f"{name} on {data.name}: batch {batch}, {given.steps} steps, {lanes} lanes, density {DENSITY}")
    engines: dict[str, tuple[Engine, int]] = {}
    for label, kind in (("eager", Reference), ("recorded", Captured)):
        engines[label] = kind(subject.model(), subject.fit, subject.sets, training, subject.dense), 1
    against = why_not_stacked(subject.model(), subject.sets, training)
    if against is None:
        engines["stacked"] = subject.stack(lanes, capture=False), lanes
        engines["stacked and recorded"] = subject.stack(lanes, capture=True), lanes
    else:
        print(f"  not stacked: {against}")
    speeds: dict[str, float] = {}
    for label, (engine, count) in engines.items():
        speed, refused = subject.speed(engine, given.warm)
        speeds[label] = speed * count
        row(f"  {label}", speeds[label], unit=" steps/s")
        if refused:
            print(f"  not recorded: {refused}")
    for label in list(speeds)[1:]:
        row(f"  {label} / eager", speeds[label] / speeds["eager"])
    short = replace(training, steps=given.agree, eval_every=max(1, given.agree // 4))
    here = Subject(recipe, data, short, device)
    there = Subject(recipe, data, short, torch.device("cpu"))
    wanted = there.trained(captured=False)
    for label, captured in (("eager", False), ("recorded", True)):
        equal, apart = agreement(here.trained(captured=captured), wanted)
        row(f"  {label}: equal places of the mask (%)", 100 * equal)
        row(f"  {label}: largest difference of a loss (1e-6)", 1e6 * apart)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints the tables."""
    parser = argparse.ArgumentParser(description="steps per second on a GPU, and agreement with the CPU")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, or cpu (small)")
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES))
    parser.add_argument("--steps", type=int, help="of a timed run")
    parser.add_argument("--lanes", type=int, help="of a stack; 0: as many as fit, at most 16")
    given = parser.parse_args(arguments)
    try:
        device = resolve_device(given.device)
    except UsageError as error:
        print(f"no measurement on {given.device}: {error}")
        return 0
    small = device.type != "cuda"
    sizes = {"steps": 6, "lanes": 2, "warm": 4, "agree": 4, "batch": 8, "examples": 100}
    full = {"steps": 600, "lanes": 0, "warm": 100, "agree": 50, "batch": 10_000, "examples": 60_000}
    for key, value in (sizes if small else full).items():
        if getattr(given, key, None) is None:
            setattr(given, key, value)
    if small:
        one_thread()
    print(machine() if small else f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}")
    for name in given.recipes:
        measure(name, device, given)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
