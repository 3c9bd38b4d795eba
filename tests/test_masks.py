"""Masks: immutable, exact, and identified by what they hold."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tombola.errors import UsageError
from tombola.masks import Mask

Shapes = st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=4), min_size=1, max_size=4)


def drawn(shapes: list[list[int]], seed: int, density: float = 0.5) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {f"layer{i}.weight": torch.rand(s, generator=generator) < density for i, s in enumerate(shapes)}


@settings(max_examples=40, deadline=None)
@given(Shapes, st.integers(0, 2**32))
def test_a_mask_is_what_it_was_made_of(shapes: list[list[int]], seed: int) -> None:
    kept = drawn(shapes, seed)
    mask = Mask(kept)
    assert list(mask) == list(kept)
    assert len(mask) == len(shapes)
    for name, places in kept.items():
        assert torch.equal(mask[name], places)
        assert mask.shapes[name] == tuple(places.shape)
        assert mask.kept[name] == int(places.sum())
    assert mask.total == sum(places.numel() for places in kept.values())
    assert mask.alive == sum(int(places.sum()) for places in kept.values())
    assert mask.density == mask.alive / mask.total
    assert list(mask.sparse()) == [name for name, places in kept.items() if not places.all()]


@settings(max_examples=40, deadline=None)
@given(Shapes, st.integers(0, 2**32))
def test_packing_pickling_and_copying_come_back_equal(shapes: list[list[int]], seed: int) -> None:
    mask = Mask(drawn(shapes, seed))
    for again in (
        Mask.from_packed(mask.shapes, mask.packed),
        pickle.loads(pickle.dumps(mask)),
        copy.copy(mask),
        copy.deepcopy(mask),
        Mask(mask),
    ):
        assert again == mask
        assert hash(again) == hash(mask)
        assert list(again) == list(mask)
        assert (again.digest, again.shapes, again.kept, again.packed) == (
            mask.digest,
            mask.shapes,
            mask.kept,
            mask.packed,
        )


def test_nothing_that_a_mask_gives_away_changes_it() -> None:
    source = {"a": torch.tensor([[True, False], [True, True]]), "b": torch.ones(2, 2, dtype=torch.bool)}
    mask = Mask(source)
    before = mask.digest
    source["a"].fill_(False)
    source["c"] = source["a"]
    mask["a"].fill_(False)
    mask.sparse()["a"].zero_()
    for given_away in (mask.kept, mask.shapes, mask.packed):
        given_away.clear()
    dict(mask.items())["a"].zero_()
    assert mask["a"].tolist() == [[True, False], [True, True]]
    assert (list(mask), mask.kept, mask.alive) == (["a", "b"], {"a": 3, "b": 4}, 7)
    assert mask.digest == before == Mask(dict(mask)).digest


def test_a_mask_cannot_be_written_to() -> None:
    mask = Mask({"a": torch.ones(2, 2, dtype=torch.bool)})
    with pytest.raises(TypeError, match="does not support item assignment"):
        mask["a"] = torch.zeros(2, 2, dtype=torch.bool)  # type: ignore[index]
    for name in ("digest", "kept", "alive", "density", "other"):
        with pytest.raises(AttributeError):
            setattr(mask, name, 0)
    assert mask.density == 1.0


def test_the_digest_depends_on_names_order_shapes_and_places() -> None:
    a, b = torch.tensor([[True, False], [True, True]]), torch.tensor([[True, True], [False, True]])
    masks = [
        Mask({"a": a, "b": b}),
        Mask({"b": b, "a": a}),
        Mask({"a": b, "b": a}),
        Mask({"a": a, "c": b}),
        Mask({"a": a}),
        Mask({"a": a.view(1, 4), "b": b}),
        Mask({"a": a.view(4), "b": b}),
        Mask({"a": a, "b": ~b}),
        Mask({"a": torch.cat([a, b])}),
        Mask({}),
    ]
    assert len({mask.digest for mask in masks}) == len(masks)
    assert len(set(masks)) == len(masks)
    assert all(len(mask.digest) == 32 for mask in masks)
    assert masks[0] != dict(masks[0])


@settings(max_examples=40, deadline=None)
@given(Shapes, st.integers(0, 2**32), st.integers(0, 10**6))
def test_one_place_changes_the_digest(shapes: list[list[int]], seed: int, place: int) -> None:
    kept = drawn(shapes, seed)
    mask = Mask(kept)
    flat = kept["layer0.weight"].view(-1)
    flat[place % len(flat)].logical_not_()
    assert Mask(kept) != mask


@settings(max_examples=40, deadline=None)
@given(Shapes, st.integers(0, 2**32))
def test_nesting(shapes: list[list[int]], seed: int) -> None:
    outer = Mask(drawn(shapes, seed))
    inner = Mask({name: places & drawn(shapes, seed + 1)[name] for name, places in outer.items()})
    assert inner.within(outer)
    assert outer.within(outer)
    assert outer.within(inner) == (inner == outer)


def test_masks_of_other_names_or_shapes_are_not_nested() -> None:
    row = Mask({"a": torch.tensor([[True, False]])})
    assert not row.within(Mask({"b": torch.ones(1, 2, dtype=torch.bool)}))
    assert not row.within(Mask({"a": torch.ones(2, 1, dtype=torch.bool)}))  # these would broadcast
    assert not row.within(Mask({"a": torch.ones(1, 2, dtype=torch.bool), "b": torch.ones(1, dtype=torch.bool)}))
    assert row.within(Mask({"a": torch.ones(1, 2, dtype=torch.bool)}))


def test_dense_masks_and_empty_ones() -> None:
    dense = Mask.dense(nn.Linear(3, 2))
    assert (dense.density, dense.alive, dense.total, dense.sparse()) == (1.0, 6, 6, {})
    assert (Mask({}).density, Mask({}).alive, len(Mask({}))) == (0.0, 0, 0)
    assert repr(dense) == "Mask(1 tensors, 6 of 6 kept, density 100.00%)"


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.int64])
def test_what_is_not_boolean_is_refused(dtype: torch.dtype) -> None:
    with pytest.raises(UsageError, match=rf"mask of 'fc\.weight' has dtype {dtype}; expected torch\.bool"):
        Mask({"fc.weight": torch.ones(2, 2, dtype=dtype)})


def test_damaged_bits_are_refused() -> None:
    with pytest.raises(UsageError, match="takes 1 bytes, not 2"):
        Mask.from_packed({"a": (2, 2)}, {"a": b"\x0f\x00"})
    with pytest.raises(UsageError, match="bits after its end are set"):
        Mask.from_packed({"a": (2, 2)}, {"a": b"\xff"})


def test_require_names_the_first_tensor_that_does_not_fit() -> None:
    mask = Mask({"0.weight": torch.ones(2, 3, dtype=torch.bool), "2.weight": torch.ones(1, 2, dtype=torch.bool)})
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1))
    mask.require(dict(model.named_parameters()))
    with pytest.raises(UsageError, match=r"names '2\.weight', which the model does not have; .*Mask\.dense"):
        mask.require(dict(model[:2].named_parameters()))
    with pytest.raises(UsageError, match=r"'0\.weight' has shape \(2, 3\), but the weight has \(3, 2\)"):
        mask.require({"0.weight": torch.ones(3, 2), "2.weight": torch.ones(5)})


def test_a_mask_is_made_from_any_layout_in_memory() -> None:
    places = torch.rand(4, 6, generator=torch.Generator().manual_seed(0)) < 0.5
    turned = Mask({"a": places.t()})
    assert turned == Mask({"a": places.t().contiguous()})
    assert torch.equal(turned["a"], places.t())
    assert Mask({"a": torch.ones(1, dtype=torch.bool).expand(3, 3)}).alive == 9
