"""Identity: the canonical JSON of specifications, and the digests that stored results go by."""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from dataclasses import dataclass, fields, replace
from enum import Enum
from pathlib import Path
from types import FunctionType
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tombola.allocation import Layerwise, globally
from tombola.criteria import Probe, Scores
from tombola.criteria.weights import magnitude, random
from tombola.errors import UsageError
from tombola.masks import Mask
from tombola.pruning import Pruner
from tombola.requests import Fit, Gradual, ProbeSpec, Prune
from tombola.scopes import Scope
from tombola.specs import added, canonical, canonical_json, digest, wish
from tombola.starts import At, Init, Moment
from tombola.training.optimizers import LrSchedule, Optimizer
from tombola.training.settings import Training

# Stored results go by these: a change here makes every store forget what it has.
GOLDEN_FIT = "23a7c78f986ec0dd84d702699757ca94"
GOLDEN_REWOUND = "c8527b56b76c7084ff9cf964059bd1e4"
GOLDEN_PRUNE = "762649f37429eb61037bc0faf8862255"
GOLDEN_TRAINING = "73fde630949fbf5b3beac144e31e32e8"
GOLDEN_MASK = "d5bef4c60da5a9be1082e42426dcf50a"
GOLDEN_SCOPE = "490bc4c80bba7a3d3c5f5858f8049ae7"

MASK = Mask({"a": torch.arange(6).view(2, 3) % 2 == 0, "b": torch.arange(4).view(4, 1) > 0})
FIT = Fit(start=Init(seed=3), mask=MASK, last=100, order=1, noise=2)
PRUNE = Prune(start=At(fit="f" * 32, step=7), mask=MASK, pruner=Pruner(), keep=4, seed=5)
TRAINING = Training(steps=1200)


@dataclass(frozen=True, kw_only=True)
class Plain:
    """A specification with one field of each sort."""

    steps: int = 10
    rate: float = 0.5
    later: float | None = added(None)
    share: float = added(1.0)
    shown: tuple[int, ...] = wish(())


@dataclass(frozen=True, kw_only=True)
class Newer(Plain):
    """The same under another schema version."""

    schema: ClassVar[int] = 2


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """A user's criterion with an option."""

    power: int = 2

    def __call__(self, model: nn.Module, mask: Mask, probe: Probe) -> Scores:
        """|w| ** power."""
        return {name: score**self.power for name, score in magnitude(model, mask, probe).items()}


def users(model: nn.Module, mask: Mask, probe: Probe, power: int = 2) -> Scores:
    """A user's criterion without options, but with a default."""
    return magnitude(model, mask, probe)


def users_other(model: nn.Module, mask: Mask, probe: Probe) -> Scores:
    """Another one."""
    return random(model, mask, probe)


class Colour(Enum):
    """Members with text and with numbers."""

    RED = "red"
    TWO = 2


def test_golden_digests() -> None:
    assert digest(FIT) == GOLDEN_FIT
    assert digest(replace(FIT, start=At(fit="f" * 32, step=7), first=7, held_rate=100)) == GOLDEN_REWOUND
    assert digest(PRUNE) == GOLDEN_PRUNE
    assert digest(TRAINING) == GOLDEN_TRAINING
    assert MASK.digest == GOLDEN_MASK
    assert digest(Scope(protect=("*.bias",))) == GOLDEN_SCOPE


def test_every_default_is_written() -> None:
    assert canonical(Plain()) == {"class": "Plain", "schema": 1, "steps": 10, "rate": 0.5}
    assert canonical(Plain()) == canonical(Plain(steps=10, rate=0.5, later=None, share=1))
    written = canonical(TRAINING)
    assert isinstance(written, dict)
    later = {"augment", "precision", "memory_format", "parts"}
    assert set(written) == {"class", "schema"} | {f.name for f in fields(Training)} - later
    assert written["optimizer"] == {
        "class": "Optimizer",
        "schema": 1,
        "name": "adam",
        "lr": 0.0012,
        "betas": [0.9, 0.999],
        "eps": 1e-8,
        "momentum": 0,
        "nesterov": False,
        "weight_decay": 0,
    }


def test_every_field_of_a_training_changes_its_digest() -> None:
    changes: dict[str, Any] = {
        "steps": 1201,
        "batch_size": 61,
        "loss": "mean-squared-error",
        "label_smoothing": 0.1,
        "l2": 1e-4,
        "clip_norm": 1.0,
        "optimizer": Optimizer(lr=1.3e-3),
        "schedule": LrSchedule(warmup=1),
        "eval_every": 99,
        "normalise": "pixel",
        "validation": 5,
        "split_seed": 1,
        "augment": "flip-crop",
        "precision": "bfloat16",
        "memory_format": "channels-last",
        "parts": 2,
    }
    assert set(changes) == {f.name for f in fields(Training)}
    digests = {digest(replace(TRAINING, **{name: value})) for name, value in changes.items()}
    assert len(digests | {digest(TRAINING)}) == len(changes) + 1


def test_every_identity_field_of_a_request_changes_its_digest() -> None:
    other = Mask.dense(nn.Linear(2, 2))
    changes: dict[str, Any] = {
        "start": Init(seed=4),
        "mask": None,
        "first": 1,
        "last": 101,
        "order": 9,
        "noise": 9,
        "held_rate": 100,
        "frozen": Init(seed=4),
        "gather": ("movement",),
        "dynamics": Gradual(pruner=Pruner(), keeps=((2, 3),), seed=1),
    }
    assert set(changes) == {f.name for f in fields(Fit)} - {"keep"}
    found = {digest(replace(FIT, **{name: value})) for name, value in changes.items()}
    assert len(found | {digest(FIT), digest(replace(FIT, mask=other))}) == len(changes) + 2
    cuts: dict[str, Any] = {
        "start": At(fit="f" * 32, step=8),
        "mask": other,
        "pruner": Pruner(allocation=Layerwise()),
        "keep": 3,
        "seed": 6,
        "initial": Init(seed=4),
        "probe": ProbeSpec(),
    }
    assert set(cuts) == {f.name for f in fields(Prune)}
    assert len({digest(replace(PRUNE, **{n: v})) for n, v in cuts.items()} | {digest(PRUNE)}) == len(cuts) + 1


def test_wishes_are_no_identity() -> None:
    assert digest(replace(FIT, keep=(1, 2, Moment.EARLY_STOP))) == digest(FIT)
    assert digest(Plain(shown=(3,))) == digest(Plain())
    assert "shown" not in canonical_json(Plain(shown=(3,)))


def test_an_added_field_is_left_out_only_while_neutral() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Before:
        steps: int = 10
        rate: float = 0.5

    old = canonical_json(Before()).replace("Before", "Plain")
    assert canonical_json(Plain()) == old
    assert canonical(Plain(later=0.0)) == {**json.loads(old), "later": 0}
    assert canonical(Plain(share=0.5)) == {**json.loads(old), "share": 0.5}
    assert digest(replace(FIT, held_rate=0)) != digest(FIT)  # 0 is a step, not "none"


def test_schema_version_and_class_name_count() -> None:
    assert canonical(Newer()) == {"class": "Newer", "schema": 2, "steps": 10, "rate": 0.5}

    @dataclass(frozen=True)
    class Here:
        seed: int = 3

    assert digest(Here()) != digest(Init(seed=3))


@pytest.mark.parametrize(
    ("one", "same"),
    [(1, 1.0), (-0.0, 0.0), (0, -0.0), ((1, 2), [1, 2]), (1e22, 10**22), (np.float64(0.5), 0.5), (Colour.RED, "red")],
)
def test_equal_values_are_written_alike(one: object, same: object) -> None:
    assert canonical_json(one) == canonical_json(same)
    assert digest({"x": one}) == digest({"x": same})


def test_different_values_are_written_differently() -> None:
    values: list[Any] = [None, True, 1, "1", [1], {"1": 1}, 0, False, "", [], {}, "None", 0.1, 0.1 + 2**-56, "0.1"]
    assert len({canonical_json(value) for value in values}) == len(values)
    assert canonical(Colour.TWO) == "TWO"


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.text(), st.integers() | st.text() | st.booleans() | st.none(), max_size=6), st.randoms())
def test_the_order_of_a_mapping_is_irrelevant(content: dict[str, Any], rng: Any) -> None:
    names = list(content)
    rng.shuffle(names)
    assert digest(OrderedDict((name, content[name]) for name in names)) == digest(content)
    assert json.loads(canonical_json(content)) == content


@settings(max_examples=40, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_is_written_exactly(value: float) -> None:
    assert json.loads(canonical_json(value)) == value


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, np.float64("nan")])
def test_numbers_that_are_none_are_refused(bad: float) -> None:
    with pytest.raises(UsageError, match="must be finite"):
        digest({"rate": [bad]})
    with pytest.raises(UsageError, match="must be finite"):
        digest(Plain(rate=bad))


def test_what_has_no_canonical_form_is_refused() -> None:
    with pytest.raises(UsageError, match=r"holds the path data/x; .* never of paths"):
        digest({"data": Path("data/x")})
    for bad in (object(), {1, 2}, b"x", Init, torch.zeros(2), np.int64(3), nn.Linear(1, 1), 1j):
        with pytest.raises(UsageError, match="which has no canonical form"):
            digest([bad])
    with pytest.raises(UsageError, match="mapping with the key 1; expected only strings"):
        digest({"a": 1, 1: "a"})


def test_functions_of_tombola_go_by_name() -> None:
    assert canonical(Pruner()) == {
        "class": "Pruner",
        "schema": 1,
        "criterion": {"function": "magnitude"},
        "allocation": {"function": "globally"},
    }
    assert digest(magnitude) != digest(random) != digest(globally)


def test_functions_of_users_go_by_name_source_and_defaults() -> None:
    written = canonical(users)
    assert isinstance(written, dict)
    assert written["function"] == f"{__name__}:users"
    assert len(str(written["source"])) == 64
    assert written["defaults"] == [[2], None]
    changed = FunctionType(users.__code__, users.__globals__, "users", (3,))
    changed.__qualname__, changed.__module__ = users.__qualname__, users.__module__
    assert digest(changed) != digest(users) != digest(users_other)
    other = FunctionType(users_other.__code__, users_other.__globals__, "users", (2,))  # the same name, other code
    other.__qualname__, other.__module__ = users.__qualname__, users.__module__
    assert digest(other) != digest(users)


def test_a_user_s_callable_dataclass_goes_by_fields_and_source() -> None:
    written = canonical(Scorer())
    assert isinstance(written, dict)
    assert written["power"] == 2
    assert len(str(written["source"])) == 64
    assert digest(Scorer()) == digest(Scorer(power=2)) != digest(Scorer(power=3))
    assert "source" not in canonical_json(Plain())
    assert "source" not in canonical_json(Layerwise())

    @dataclass(frozen=True, kw_only=True)
    class _Same:
        power: int = 2

        def __call__(self) -> None:
            """Other code."""

    _Same.__name__ = "Scorer"
    assert digest(_Same()) != digest(Scorer())


def test_functions_that_cannot_be_told_apart_are_refused() -> None:
    power = 3

    def closure(model: nn.Module, mask: Mask, probe: Probe) -> Scores:
        return {name: score**power for name, score in magnitude(model, mask, probe).items()}

    with pytest.raises(UsageError, match=r"closure captures power, so .* frozen dataclass"):
        digest(closure)
    with pytest.raises(UsageError, match="has no name"):
        digest(lambda model, mask, probe: {})
    space: dict[str, Any] = {"__name__": "nowhere"}
    exec("def typed(model, mask, probe): return {}", space)
    with pytest.raises(UsageError, match=r"source of nowhere:typed cannot be read.*define it in a file"):
        digest(space["typed"])
