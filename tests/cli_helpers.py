"""The command line, called in this process, and small inputs for it."""

from __future__ import annotations

import contextlib
import io
import json
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tombola.cli import main
from tombola.commands import pages
from tombola.commands.arguments import write_whole
from tombola.store import Store

NET = ("--model", "mlp", "--net.hidden", "8")
SMALL = ("--levels", "1", "--steps", "5", "--replicates", "1", "--workers", "1")

MODELS = """
import torch
from torch import nn


def good():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def narrow():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))


def one():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1))


class Unprunable(nn.Module):
    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(3))

    def forward(self, x):
        return x[:, :3] + self.shift


class Fragile(nn.Module):
    '''Raises at its fourth training step once it is pruned.'''

    def __init__(self):
        super().__init__()
        self.hidden, self.output, self.steps = nn.Linear(6, 8), nn.Linear(8, 3), 0

    def forward(self, x):
        self.steps += self.training
        if self.steps > 3 and (self.hidden.weight == 0).any():
            raise ValueError("I am too sparse\\nand have a lot to say about it" + "\\n  at some length" * 40)
        return self.output(torch.relu(self.hidden(x)))


class Tuple(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x):
        return self.layer(x), x


def nothing():
    pass


def raises():
    raise RuntimeError("no luck today")


def ends():
    raise SystemExit(3)


def needs(width):
    return good()


number = 3
"""


@dataclass(frozen=True)
class Called:
    """What a command gave back."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """Its words on standard error as a terminal of 80 columns shows them."""
        return [part for line in self.err.splitlines() for part in textwrap.wrap(line, 80) or [""]]

    @property
    def json(self) -> Any:
        """Its standard output, which must be nothing but JSON."""
        return json.loads(self.out)


@contextlib.contextmanager
def undrawn() -> Iterator[None]:
    """Pages are a line of text meanwhile: to draw one takes seconds."""

    def write(digest: str, content: Any, document: Any, store: Store, target: Path | None, **_: object) -> Path:
        path = target or store.root / "reports" / f"{digest[:12]}.html"
        write_whole(path, f"<html>{digest}</html>")
        return path

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "experiment_page", write)
        yield


def call(*arguments: object) -> Called:
    """Run a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as end:  # tyro ends the process after --help
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    return Called(code, out.getvalue(), err.getvalue())


def good(*arguments: object) -> Called:
    """Run a command that must succeed."""
    called = call(*arguments)
    assert called.code == 0, called.err
    return called


def document(path: str | Path) -> Any:
    """The JSON in a file."""
    return json.loads(Path(path).read_text())


def files(root: str | Path) -> dict[str, bytes]:
    """Every file below a directory."""
    return {str(path): path.read_bytes() for path in sorted(Path(root).rglob("*")) if path.is_file()}


def arrays(**changes: Any) -> dict[str, NDArray[Any]]:
    """80 + 30 examples of 6 features in three classes."""
    random = np.random.default_rng(0)
    found: dict[str, NDArray[Any]] = {
        "x_train": random.normal(size=(80, 6)).astype("float32"),
        "y_train": np.arange(80) % 3,
        "x_test": random.normal(size=(30, 6)).astype("float32"),
        "y_test": np.arange(30) % 3,
    }
    return {**found, **changes}


def images() -> dict[str, NDArray[Any]]:
    """The same as pictures of 4 x 4 bytes."""
    random = np.random.default_rng(1)
    return arrays(
        x_train=random.integers(0, 256, size=(80, 1, 4, 4), dtype="uint8"),
        x_test=random.integers(0, 256, size=(30, 1, 4, 4), dtype="uint8"),
    )


def targets(*width: int) -> dict[str, NDArray[Any]]:
    """The same with numbers in the place of classes."""
    random = np.random.default_rng(2)
    return arrays(
        y_train=random.normal(size=(80, *width)).astype("float32"),
        y_test=random.normal(size=(30, *width)).astype("float32"),
    )
