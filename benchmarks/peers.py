"""The same iterative magnitude pruning as a beginner would write it with three tools: what does it cost?

    python benchmarks/peers.py           LeNet-300-100 on MNIST, 15 prunings, 600 steps a level: about 5 minutes

Each way trains levels + 1 times, batch 60, Adam 1.2e-3; between, it takes 20 % of the surviving weights of every layer
and goes back to the initial weights; it measures the test accuracy after each level. The yardstick is as many trainings
of the plainest dense loop, over batches that lie ready. Lightning comes with the extra `bench`; without it its row is
left out.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import inspect
import logging
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # This folder holds a select.py and must not stand in for the standard library's.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

import tombola
from benchmarks.common import machine, one_thread
from benchmarks.step import RATE, WIDTHS, dataset
from tombola.answers import Answer, Trained
from tombola.data import Dataset
from tombola.executors.base import Job
from tombola.models.fully_connected import mlp
from tombola.runner import Failure, Place
from tombola.watching import Silent

BATCH = 60
CUT = 0.2
DENSE, BY_HAND, LIGHTNING, OURS = "plain dense loops", "torch.nn.utils.prune", "Lightning ModelPruning", "Tombola"

NOTES = """\
ms/step: processor time of a level's training and test evaluation, divided by its steps; bare steps: benchmarks/step.py.
Lines of code: as they stand in this file. The three ways differ in what a beginner gets:
* torch.nn.utils.prune: shuffles with a DataLoader over ready tensors; pruned weights stay in weight_orig and are
  multiplied by a mask in every step.
* Lightning: logger, checkpoints, progress bar, summary off. Its callback counts epochs, so a level is an epoch of
  --steps batches. It never starts the optimizer afresh, so Adam's moments go on from level to level; it leaves biases
  alone; and the weights it gives back at first are the very tensors that it trains from then on (line above). So its
  accuracies are those of one long training, not of rewound tickets.
* Tombola: holds 5,000 images out of the training set, evaluates these and the test set before and after each training
  and the whole training set once, and keeps masks and states in a store on disk; all that is in its time."""


# What a user writes, once for each tool. `tell` takes the place of a print.


def plain_dense(batches: list[Any], test: TensorDataset, levels: int, seed: int, tell: Watch) -> None:
    """The yardstick: nothing is pruned, nothing shuffled."""
    for _ in range(levels + 1):
        model = mlp(WIDTHS, seed=seed)
        optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
        for x, y in batches:
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            right = sum(int((model(x).argmax(1) == y).sum()) for x, y in DataLoader(test, batch_size=1000))
        tell.level(model, right / len(test))


def by_hand(train: TensorDataset, test: TensorDataset, levels: int, steps: int, seed: int, tell: Watch) -> None:
    """As tutorials do it."""
    torch.manual_seed(seed)
    batches = DataLoader(train, batch_size=BATCH, sampler=RandomSampler(train, num_samples=BATCH * steps))
    model = mlp(WIDTHS, seed=seed)
    initial = copy.deepcopy(model.state_dict())
    layers = {name: layer for name, layer in model.named_children() if isinstance(layer, nn.Linear)}
    for level in range(levels + 1):
        for name, layer in layers.items() if level else ():
            prune.l1_unstructured(layer, "weight", amount=CUT)
            with torch.no_grad():
                layer.weight_orig.copy_(initial[f"{name}.weight"])
                layer.bias.copy_(initial[f"{name}.bias"])
        optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
        model.train()
        for x, y in batches:
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            right = sum(int((model(x).argmax(1) == y).sum()) for x, y in DataLoader(test, batch_size=1000))
        tell.level(model, right / len(test))


def with_lightning(train: TensorDataset, test: TensorDataset, levels: int, steps: int, seed: int, tell: Watch) -> None:
    """With the callback that Lightning has for it; `told` stands where a logger would."""
    import pytorch_lightning as pl
    from pytorch_lightning.callbacks import ModelPruning

    class Net(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = mlp(WIDTHS, seed=seed)

        def training_step(self, batch: list[torch.Tensor]) -> torch.Tensor:
            x, y = batch
            return F.cross_entropy(self.model(x), y)

        def validation_step(self, batch: list[torch.Tensor]) -> None:
            x, y = batch
            self.log("accuracy", (self.model(x).argmax(1) == y).float().mean())

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=RATE)

    torch.manual_seed(seed)
    net = Net()
    pruning = ModelPruning(
        "l1_unstructured",
        parameters_to_prune=[(layer, "weight") for layer in net.model if isinstance(layer, nn.Linear)],
        use_global_unstructured=False,
        amount=CUT,
        apply_pruning=lambda epoch: epoch < levels,
        use_lottery_ticket_hypothesis=True,
    )
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=levels + 1,
        callbacks=[told(tell, seed), pruning],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    batches = DataLoader(train, batch_size=BATCH, sampler=RandomSampler(train, num_samples=BATCH * steps))
    trainer.fit(net, batches, DataLoader(test, batch_size=1000))


def ours(data: Dataset, levels: int, steps: int, seed: int, tell: Watch) -> None:
    """With Tombola; the watcher stands where `tombola run` has its progress display."""
    with tempfile.TemporaryDirectory() as store:
        tombola.run(
            "mnist-lenet",
            data=data,
            levels=levels,
            steps=steps,
            eval_every=steps,
            output_factor=1.0,
            controls=(),
            replicates=1,
            seed=seed,
            store=store,
            watcher=tell,
        )


# What measures them.


@dataclass
class Watch(Silent):
    """Told by each way how it goes on: processor seconds of each level, the last density and accuracy."""

    seconds: list[float] = field(default_factory=list)
    density: float = 1.0
    accuracy: float = 0.0
    engine: str = ""
    rewound: int = 0
    total: float = 0.0

    def time(self, way: Callable[[Watch], None]) -> Watch:
        """Run one way from beginning to end."""
        begun = self.begun = time.process_time()
        way(self)
        self.total = time.process_time() - begun
        return self

    def begin(self) -> None:
        """A level begins; for those who do not say so, where the one before ended."""
        self.begun = time.process_time()

    def level(self, model: nn.Module, accuracy: float) -> None:
        """A level has ended."""
        weights = [layer.weight for layer in model.modules() if isinstance(layer, nn.Linear)]
        density = sum(int(w.count_nonzero()) for w in weights) / sum(w.numel() for w in weights)
        self._ended(density, accuracy)

    def started(self, job: Job) -> None:
        """Tombola begins to compute something."""
        self.begin()

    def answered(self, place: Place, answer: Answer) -> None:
        """Tombola has computed something: a training ends a level."""
        if isinstance(answer, Trained) and answer.curve.end:
            self.engine = str(answer.provenance["engine"])
            density = sum(answer.kept.values()) / answer.prunable if answer.kept else 1.0
            self._ended(density, answer.curve.end.test_metric or 0.0)

    def failed(self, failure: Failure) -> None:
        """Tombola could not compute something: no table."""
        raise SystemExit(f"{OURS}: {failure.cause}")

    def _ended(self, density: float, accuracy: float) -> None:
        self.seconds.append(time.process_time() - self.begun)
        self.density, self.accuracy = density, accuracy
        self.begin()


def told(watch: Watch, seed: int) -> Any:
    """A Lightning callback that tells the watch, and looks whether a level begins at the initial weights."""
    import pytorch_lightning as pl

    initial = [layer.weight for layer in mlp(WIDTHS, seed=seed) if isinstance(layer, nn.Linear)]

    class Told(pl.Callback):
        def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            layers = [layer for layer in pl_module.modules() if isinstance(layer, nn.Linear)]
            now = [getattr(layer, "weight_orig", layer.weight) for layer in layers]
            watch.rewound += trainer.current_epoch > 0 and all(map(torch.equal, now, initial))
            watch.begin()

        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            watch.level(pl_module, float(trainer.callback_metrics["accuracy"]))

    return Told()


def lines(function: Callable[..., None]) -> int:
    """Lines of code of a function as they stand here, without blank ones, its signature and docstring (a line each)."""
    return sum(bool(line.strip()) for line in inspect.getsource(function).splitlines()) - 2


def show(name: str, watches: list[Watch], dense: list[Watch], steps: int, code: int) -> None:
    """Prints one row: medians over the rounds, ratios round by round."""
    first, last = (statistics.median(watch.seconds[at] for watch in watches) / steps * 1e3 for at in (0, -1))
    total = statistics.median(watch.total for watch in watches)
    ratio = statistics.median(watch.total / base.total for watch, base in zip(watches, dense, strict=True))
    change = statistics.median(watch.seconds[-1] / watch.seconds[0] for watch in watches)
    accuracy = 100 * statistics.median(watch.accuracy for watch in watches)
    figures = f"{total:9.2f} {ratio:7.3f} {first:8.3f} {last:8.3f} {change:10.2f} {100 * watches[0].density:9.2f}"
    print(f"{name:<24} {figures} {accuracy:9.2f} {code:6}")


def main() -> None:
    """Runs all ways in turn, prints the table."""
    parser = argparse.ArgumentParser(description="one pruning ladder with torch.nn.utils.prune, Lightning and Tombola")
    parser.add_argument("--levels", type=int, default=15, help="prunings; one training more")
    parser.add_argument("--steps", type=int, default=600, help="of each training")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each way, in turn forwards and backwards")
    given = parser.parse_args()
    if min(given.levels, given.steps, given.rounds) < 1:
        parser.error("levels, steps and rounds are whole numbers, 1 or more")
    one_thread()
    if lightning := importlib.util.find_spec("pytorch_lightning") is not None:
        importlib.import_module("pytorch_lightning")  # sets its logger's level
        logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module="pytorch_lightning")
    data = dataset()
    train = TensorDataset(data.x_train.flatten(1).float().div(255), data.y_train)
    test = TensorDataset(data.x_test.flatten(1).float().div(255), data.y_test)

    def ways(levels: int, steps: int, seed: int) -> dict[str, Callable[[Watch], None]]:
        x, y = (tensor[: BATCH * steps].split(BATCH) for tensor in train.tensors)
        ready = list(zip(x, y, strict=True))
        batches = [ready[at % len(ready)] for at in range(steps)]
        found = {
            DENSE: partial(plain_dense, batches, test, levels, seed),
            BY_HAND: partial(by_hand, train, test, levels, steps, seed),
            LIGHTNING: partial(with_lightning, train, test, levels, steps, seed),
            OURS: partial(ours, data, levels, steps, seed),
        }
        return {name: way for name, way in found.items() if lightning or name != LIGHTNING}

    for way in ways(1, 5, 0).values():  # imports, caches
        Watch().time(way)
    watches: dict[str, list[Watch]] = {}
    for number in range(given.rounds):
        todo = list(ways(given.levels, given.steps, number).items())
        for name, way in todo[:: -1 if number % 2 else 1]:
            watches.setdefault(name, []).append(Watch().time(way))
            print(f"round {number + 1} of {given.rounds}: {name}, {watches[name][-1].total:.1f} s", file=sys.stderr)
    print(machine())
    shape = f"{given.levels} prunings, {given.steps} steps a training, {given.rounds} rounds (seeds), processor time"
    print(f"LeNet-300-100 on {data.name}, batch {BATCH}, {shape}")
    print(f"{'':24}  ladder s  /dense       ms/step:      last/first   density  accuracy   code")
    print(f"{'':24}                      first     last                   %         %  lines")
    code = {DENSE: plain_dense, BY_HAND: by_hand, LIGHTNING: with_lightning, OURS: ours}
    for name, runs in watches.items():
        label = f"{OURS}, engine {runs[0].engine}" if name == OURS else name
        show(label, runs, watches[DENSE], given.steps, lines(code[name]))
    if lightning:
        print(f"{LIGHTNING}: {watches[LIGHTNING][0].rewound} of {given.levels} rewinds gave the initial weights back.")
    else:
        print(f"{LIGHTNING}: not installed. To see it: pip install -c constraints.txt -e '.[bench]'")
    print(NOTES)


if __name__ == "__main__":
    main()
