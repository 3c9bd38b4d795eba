"""Augmentation, formats and parts: what a training does with a batch before and while it passes the network."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from helpers import Bench, Recorder, order_by_hand, same_bits, same_state
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tombola.data import Dataset, from_arrays
from tombola.data.augmentation import FlipCrop, augmentation_of
from tombola.errors import UsageError
from tombola.masks import Mask
from tombola.models.dropout import CounterDropout
from tombola.native.fits import _asked_of
from tombola.streams import Key, key, uniform
from tombola.supervised import Supervised
from tombola.training.forward import outputs_of
from tombola.training.loop import Stopped
from tombola.training.optimizers import Optimizer
from tombola.training.settings import Training

SGD = Optimizer(name="sgd", lr=0.05, momentum=0.9, weight_decay=0.01)


def images(count: int = 120, *, channels: int = 2, size: int = 6, seed: int = 0) -> Dataset:
    """Small random images of bytes in three classes that differ in brightness."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(3, (count,), generator=generator)
    x = torch.randint(80, (count, channels, size, size), generator=generator) + 60 * y.view(-1, 1, 1, 1)
    half = count // 2
    return from_arrays("images", x[:half].byte(), y[:half], x[half:].byte(), y[half:])


class Convolutional(nn.Module):
    """Two convolutions with or without batch norm, a pool and a layer."""

    def __init__(self, *, norm: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.body = nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1),
            nn.BatchNorm2d(4) if norm else nn.Identity(),
            nn.ReLU(),
            nn.Conv2d(4, 5, 3, padding=1),
            nn.MaxPool2d(2),
            nn.Flatten(),
            CounterDropout(dropout),
        )
        self.output = nn.Linear(45, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of the classes."""
        scores: Tensor = self.output(self.body(x))
        return scores


def bench(**changes: Any) -> Bench:
    build = changes.pop("build", Convolutional)
    settings = {"steps": 12, "batch_size": 10, "eval_every": 4, "normalise": "unit", "optimizer": SGD, **changes}
    return Bench(build, Training(**settings), images())


def by_hand(x: Tensor, spec: FlipCrop, at: Key) -> Tensor:
    """Image by image, pixel by pixel."""
    n, _, height, width = x.shape
    u = uniform(at, (3, n)).tolist()
    found = torch.zeros_like(x)
    for i in range(n):
        down, right = (int(u[axis][i] * (2 * spec.pad + 1)) - spec.pad for axis in (0, 1))
        for row in range(height):
            for column in range(width):
                seen = width - 1 - column if spec.flip and u[2][i] < 0.5 else column
                if 0 <= row + down < height and 0 <= seen + right < width:
                    found[i, :, row, column] = x[i, :, row + down, seen + right]
    return found


@given(
    st.integers(0, 5), st.booleans(), st.integers(1, 4), st.integers(1, 3), st.integers(1, 5), st.integers(1, 5),
    st.integers(0, 1000), st.sampled_from([torch.uint8, torch.float32]),
)  # fmt: skip
def test_pixels_go_where_the_formula_says(
    pad: int, flip: bool, n: int, channels: int, height: int, width: int, step: int, dtype: torch.dtype
) -> None:
    spec = FlipCrop(pad=pad, flip=flip or not pad)
    x = torch.arange(1, 1 + n * channels * height * width).view(n, channels, height, width).to(dtype)
    before, at = x.clone(), key(3, "augment", step)
    found = spec(x, at)
    assert found.dtype == dtype and torch.equal(x, before)
    assert torch.equal(found, by_hand(x, spec, at))


def test_every_shift_and_both_sides_come_equally_often() -> None:
    x = torch.zeros(20_000, 1, 5, 5)
    x[:, 0, 2, 2], x[:, 0, 2, 3] = 1, 2
    found = FlipCrop(pad=1)(x, key(0, "augment", 0))
    rows, columns = found.flatten(1).argmax(1) // 5, found.flatten(1).argmax(1) % 5
    counts = torch.bincount(rows * 5 + columns, minlength=25).view(5, 5)
    assert counts[1:4].sum() == 20_000
    wanted = 20_000 / 3 / 6  # the larger one stands beside the middle, on either side, moved by -1, 0 or 1
    for column, share in enumerate((1, 1, 2, 1, 1)):
        assert (counts[1:4, column] - share * wanted).abs().max() < 5 * (share * wanted) ** 0.5


def test_each_step_and_each_seed_draws_anew_and_can_be_replayed() -> None:
    first = bench(augment="flip-crop:pad=2")
    _, _, once = first.train()
    _, _, again = bench(augment="flip-crop:pad=2").train()
    assert same_state(once.state_dict(), again.state_dict())
    for other in (first.fit(noise=7), first.fit(order=6)):
        assert not same_state(once.state_dict(), first.train(other)[2].state_dict())
    plain = bench()
    assert not same_state(once.state_dict(), plain.train()[2].state_dict())
    assert not torch.equal(*(FlipCrop()(first.sets.train.x, key(6, "augment", step)) for step in (0, 1)))
    assert same_state(plain.train(plain.fit(noise=7))[2].state_dict(), plain.train()[2].state_dict())


def test_a_step_sees_the_batch_of_its_order_moved_by_the_noise_of_the_step() -> None:
    spec = FlipCrop(pad=2)
    one = bench(augment="flip-crop:pad=2", optimizer=Optimizer(name="sgd", lr=0.05), steps=6)
    model, sets = one.fresh(), one.sets
    model.train()
    plain = torch.optim.SGD(model.parameters(), lr=0.05, fused=True)
    for step, batch in enumerate(order_by_hand(sets.train_index, 10, 5, 6)):
        plain.zero_grad()
        x = by_hand(sets.train.x[batch], spec, key(6, "augment", step))
        nn.functional.cross_entropy(model(sets.inputs(x, torch.float32)), sets.train.y[batch]).backward()
        plain.step()
    assert same_state(dict(one.train()[2].state_dict()), dict(model.state_dict()))


def test_evaluation_sees_the_images_as_they_are() -> None:
    measured, _, model = bench(augment="flip-crop:pad=3").train()
    plain = bench()
    model.eval()
    test = plain.sets.test
    right = (model(plain.sets.inputs(test.x, torch.float32)).argmax(1) == test.y).double().mean()
    assert measured.points[-1].test_metric == pytest.approx(float(right), rel=1e-12)


@pytest.mark.parametrize(
    ("text", "shape", "words"),
    [
        ("flip-crop", (8,), ("images", "(8,)", "augment none")),
        ("flip-crop:pad=-1", (1, 8, 8), ("pad is -1",)),
        ("flip-crop:pad=0,flip=false", (1, 8, 8), ("nothing",)),
        ("flip-crop:shift=3", (1, 8, 8), ("no option 'shift'",)),
        ("flipcrop", (1, 8, 8), ("flipcrop", "flip-crop")),
    ],
)
def test_an_augmentation_that_cannot_be_is_refused(text: str, shape: tuple[int, ...], words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as error:
        augmentation_of(text, shape)
    assert all(word in str(error.value) for word in words)


def test_a_task_refuses_it_before_anything_is_trained() -> None:
    flat = from_arrays("flat", torch.rand(60, 5), torch.arange(60) % 3, torch.rand(9, 5), torch.arange(9) % 3)
    with pytest.raises(UsageError, match="images"):
        Supervised(dataset=flat, model="mlp", training=Training(steps=1, augment="flip-crop", normalise="none"))


@pytest.mark.parametrize(("norm", "optimizer"), [(True, SGD), (False, Optimizer(lr=0.01))])
def test_channels_last_is_the_same_training(norm: bool, optimizer: Optimizer) -> None:
    def build() -> nn.Module:
        return Convolutional(norm=norm).double()

    plain, other = (
        bench(build=build, optimizer=optimizer),
        bench(build=build, optimizer=optimizer, memory_format="channels-last"),
    )
    mask = Mask(
        {
            n: torch.rand(s, generator=torch.Generator().manual_seed(5)) < 0.4
            for n, s in Mask.dense(build()).shapes.items()
        }
    )
    wanted, found = plain.train(plain.fit(mask=mask)), other.train(other.fit(mask=mask))
    assert found[2].body[3].weight.is_contiguous(memory_format=torch.channels_last)
    assert all(state.is_contiguous() for kept in found[1].states.values() for state in kept.values())
    for (name, a), b in zip(wanted[2].state_dict().items(), found[2].state_dict().values(), strict=True):
        assert (a - b).abs().max() < 1e-12, name
    pruned = dict(found[2].named_parameters())
    assert all(bool((pruned[name][~kept] == 0).all()) for name, kept in mask.items())


@pytest.mark.parametrize("memory_format", ["contiguous", "channels-last"])
@pytest.mark.parametrize("optimizer", [SGD, Optimizer(lr=0.01)])
def test_a_resumed_convolution_goes_on_bit_for_bit(memory_format: str, optimizer: Optimizer) -> None:
    options = {"memory_format": memory_format, "optimizer": optimizer, "augment": "flip-crop:pad=1"}
    one = bench(build=lambda: Convolutional(dropout=0.3), **options)
    whole = one.train()
    stopped = Recorder(stop_at=5)
    with pytest.raises(Stopped):
        one.train(events=stopped)
    resumed = one.train(resume=stopped.checkpoints[-1])
    assert resumed[0].points == whole[0].points
    assert same_state(resumed[1].states[12], whole[1].states[12])


@pytest.mark.parametrize("parts", [2, 3, 10])
def test_parts_of_a_batch_make_the_step_of_the_whole(parts: int) -> None:
    def build() -> nn.Module:
        return Convolutional(norm=False).double()

    whole, cut = bench(build=build, clip_norm=0.5, l2=0.01), bench(build=build, clip_norm=0.5, l2=0.01, parts=parts)
    wanted, found = whole.train(), cut.train()
    for a, b in zip(wanted[2].state_dict().values(), found[2].state_dict().values(), strict=True):
        assert (a - b).abs().max() < 1e-12
    for a, b in zip(wanted[0].points[1:], found[0].points[1:], strict=True):
        assert a.train_loss == pytest.approx(b.train_loss, rel=1e-6) and a.train_metric == b.train_metric


def test_batch_norm_sees_the_parts() -> None:
    seen: list[int] = []

    def build() -> nn.Module:
        model = Convolutional()
        model.body[1].register_forward_pre_hook(lambda module, x: seen.append(len(x[0])) if module.training else None)
        return model

    cut = bench(build=build, parts=3, steps=1)
    cut.train()
    assert seen == [4, 3, 3]


def test_each_part_has_dropout_of_its_own() -> None:
    model = Convolutional(dropout=0.5, norm=False)
    keys: list[Key | None] = []
    model.body[6].register_forward_pre_hook(lambda module, _: keys.append(module.key) if module.training else None)
    bench(build=lambda: model, parts=2, steps=2).train()
    assert len(set(keys)) == len(keys) == 4
    assert keys[0] == key(6, "dropout/0", 0)  # that of the whole batch, which other engines draw too


def test_bfloat16_is_for_the_layers_alone() -> None:
    kinds: set[torch.dtype] = set()

    def build() -> nn.Module:
        model = Convolutional()
        model.output.register_forward_hook(lambda module, x, y: kinds.add(y.dtype))
        return model

    low = bench(build=build, precision="bfloat16")
    measured, recorder, model = low.train()
    assert kinds == {torch.bfloat16}
    assert {value.dtype for value in model.state_dict().values()} <= {torch.float32, torch.int64}
    _, _, wanted = bench().train()
    for name, value in model.named_parameters():
        reference = dict(wanted.named_parameters())[name]
        assert 0 < (value - reference).abs().max() < 0.05, name  # close, and not the same
    assert not same_bits(recorder.states[12]["output.weight"], wanted.output.weight)
    assert all(math.isfinite(point.validation_loss or 0.0) for point in measured.points)
    outputs = outputs_of(model, low.sets.test.x, low.sets, low.training, torch.float32)
    assert outputs.dtype == torch.float32  # what losses and metrics are computed from


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"parts": 0}, "parts"),
        ({"parts": 11}, "more than the 10"),
        ({"precision": "float16"}, "bfloat16"),
        ({"memory_format": "nhwc"}, "channels-last"),
        ({"augment": 3}, "augment is 3"),
        ({"augment": "crop"}, "crop"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        Training(**{"steps": 5, "batch_size": 10, **changes})


def test_the_native_trainer_says_what_it_does_not_do() -> None:
    assert "augmented" in str(_asked_of(Training(steps=1, augment="flip-crop")))
    assert "bfloat16" in str(_asked_of(Training(steps=1, precision="bfloat16")))
    assert "parts" in str(_asked_of(Training(steps=1, parts=2)))
    assert _asked_of(Training(steps=1, memory_format="channels-last")) is None
