"""Criteria that look at weights alone, against numbers worked out by hand and against the papers' own searches."""

from __future__ import annotations

import pytest
import torch
from helpers import random_mask
from torch import Tensor, nn

from tombola.criteria import Probe, criterion_of
from tombola.errors import UsageError
from tombola.masks import Mask
from tombola.pruning import prune

FIRST = [1.0, -2.0, 3.0, -4.0, 0.5, 0.0]
LAST = [3.0, 1.0, 2.5, -6.0, -0.5, 0.25]

BY_HAND = {
    "magnitude": [3.0, 1.0, 2.5, 6.0, 0.5, 0.25],
    "small_final": [-3.0, -1.0, -2.5, -6.0, -0.5, -0.25],
    "large_init": [1.0, 2.0, 3.0, 4.0, 0.5, 0.0],
    "small_init": [-1.0, -2.0, -3.0, -4.0, -0.5, -0.0],
    # ranks of |w_i|: 2 3 4 5 1 0; of |w_f|: 4 2 3 5 1 0; six survivors
    "large_init_large_final": [2 / 6, 2 / 6, 3 / 6, 5 / 6, 1 / 6, 0 / 6],
    "small_init_small_final": [1 / 6, 2 / 6, 1 / 6, 0 / 6, 4 / 6, 5 / 6],
    "magnitude_increase": [2.0, -1.0, -0.5, 2.0, 0.0, 0.25],
    "movement": [2.0, 3.0, 0.5, 2.0, 1.0, 0.25],
    "least_movement": [-2.0, -3.0, -0.5, -2.0, -1.0, -0.25],
}
SAME = [True, False, True, True, False, False]


def layer(values: list[float] | Tensor, dtype: torch.dtype = torch.float64) -> nn.Linear:
    values = torch.as_tensor(values, dtype=dtype)
    made = nn.Linear(values.numel(), 1, bias=False, dtype=dtype)
    made.weight.data.copy_(values.view(1, -1))
    return made


def first(values: list[float] | Tensor) -> Probe:
    return Probe(initial={"weight": torch.as_tensor(values, dtype=torch.float64).view(1, -1)})


@pytest.mark.parametrize("name", BY_HAND)
def test_closed_forms(name: str) -> None:
    model = layer(LAST)
    found = criterion_of(name)(model, Mask.dense(model), first(FIRST))["weight"]
    assert torch.allclose(found, torch.tensor([BY_HAND[name]], dtype=torch.float64), rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("name", "base"),
    [("large_final", "magnitude"), ("magnitude_increase", "magnitude_increase"), ("movement", "movement")],
)
@pytest.mark.parametrize("same", [True, False])
def test_weights_that_fail_the_sign_test_lie_below_all_others_in_their_own_order(
    name: str, base: str, same: bool
) -> None:
    model = layer(LAST)
    found = criterion_of(f"{name}_{'same' if same else 'different'}_sign")(model, Mask.dense(model), first(FIRST))[
        "weight"
    ][0]
    plain, passes = torch.tensor(BY_HAND[base], dtype=torch.float64), torch.tensor(SAME) == same
    assert torch.equal(found[passes], plain[passes])
    assert found[~passes].max() < found[passes].min()
    assert torch.equal(found[~passes].argsort(stable=True), plain[~passes].argsort(stable=True))


def test_the_sign_test_holds_over_all_layers() -> None:
    """A layer of large weights whose signs changed goes before one of small weights whose signs stayed."""
    model = nn.Sequential(layer([100.0, 200.0]), nn.Linear(1, 1, bias=False, dtype=torch.float64))
    model[1].weight.data.fill_(0.01)
    initial = {"0.weight": torch.tensor([[-1.0, -1.0]]), "1.weight": torch.tensor([[0.5]])}
    found = criterion_of("magnitude_increase_same_sign")(model, Mask.dense(model), Probe(initial=initial))
    assert found["0.weight"].max() < found["1.weight"].min()


def test_a_weight_that_shrank_ranks_above_one_that_changed_its_sign() -> None:
    """Scores of magnitude_increase are negative there: a plain 0 for the weight that fails would stand above."""
    model = layer([0.5, -9.0])
    mask = prune(
        model, Mask.dense(model), density=0.5, criterion="magnitude_increase_same_sign", probe=first([2.0, 1.0])
    )
    assert mask["weight"].tolist() == [[True, False]]


@pytest.mark.parametrize("name", ["large_init_large_final", "small_init_small_final"])
@pytest.mark.parametrize("seed", range(5))
def test_the_common_percentile_is_that_of_the_search(name: str, seed: int) -> None:
    """Zhou et al. search one percentile at which both tests together leave so many weights; here every one is tried."""
    generator = torch.Generator().manual_seed(seed)
    last, begun = (torch.randn(40, generator=generator, dtype=torch.float64) for _ in range(2))
    model = layer(last)
    mask = random_mask(model, 0.8, seed)
    alive = mask["weight"][0]
    sign = 1 if name.startswith("large") else -1
    sizes = (sign * last.abs(), sign * begun.abs())
    ranked = [size[alive].sort().values for size in sizes]
    score = criterion_of(name)(model, mask, first(begun))["weight"][0]
    met = set()
    for q in range(int(alive.sum())):
        passing = alive & (sizes[0] >= ranked[0][q]) & (sizes[1] >= ranked[1][q])
        count = int(passing.sum())
        if count:
            kept = score[alive].sort(descending=True).values[count - 1]
            assert torch.equal(passing, alive & (score >= kept))
            met.add(count)
    assert len(met) > 10


def test_percentiles_are_of_each_tensor_and_equal_magnitudes_share_one() -> None:
    model = nn.Sequential(layer([1.0, 1.0, -1.0, 2.0]), nn.Linear(1, 2, bias=False, dtype=torch.float64))
    model[1].weight.data.copy_(torch.tensor([[100.0], [200.0]]))
    initial = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    found = criterion_of("large_init_large_final")(model, Mask.dense(model), Probe(initial=initial))
    assert found["0.weight"].tolist() == [[0.0, 0.0, 0.0, 0.75]]
    assert found["1.weight"].tolist() == [[0.0], [0.5]]


def test_half_precision_differences_are_taken_in_more() -> None:
    model = layer([1.0, 1.0], torch.bfloat16)
    found = criterion_of("movement")(model, Mask.dense(model), first([1.001, 1.002]))["weight"][0]
    assert 0 < found[0] < found[1]


@pytest.mark.parametrize("name", [*(name for name in BY_HAND if "init" in name), "movement_different_sign"])
def test_initial_weights_are_asked_for_by_the_name_that_was_chosen(name: str) -> None:
    model = layer(LAST)
    with pytest.raises(UsageError, match=f"criterion {name} compares"):
        criterion_of(name)(model, Mask.dense(model), Probe())
