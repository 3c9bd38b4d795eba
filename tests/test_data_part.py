"""Parts of data sets."""

from __future__ import annotations

import pytest
import torch

from tombola.data import load
from tombola.data.part import Part
from tombola.errors import DataError


def test_a_part_is_drawn_once_and_keeps_its_order() -> None:
    whole, part = load("digits"), load("digits:train=300,test=50")
    assert (len(part.x_train), len(part.x_test), part.classes) == (300, 50, 10)
    assert torch.equal(part.x_train, load("digits:test=9,train=300").x_train)
    places = [int((whole.x_train == image).flatten(1).all(1).nonzero()[0, 0]) for image in part.x_train[:40]]
    assert places == sorted(places) and max(places) > 100  # not the first ones
    assert torch.equal(whole.y_train[places], part.y_train[:40])
    assert part.fingerprint != whole.fingerprint
    assert load("digits:train=1347").fingerprint == whole.fingerprint
    assert Part()(whole).fingerprint == whole.fingerprint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("digits:train=2000", "2,000 train examples asked for, and there are 1,347"),
        ("digits:train=-3", "train=-3"),
        ("digits:trian=3", "trian=3"),
        ("digits:train=3,train=4", "once each"),
        ("digits:train=", "expected train=N"),
        ("digit:train=3", "digit"),
    ],
)
def test_a_part_that_cannot_be_is_refused(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(text)
    with pytest.raises(DataError, match="train is -1"):
        Part(train=-1)
