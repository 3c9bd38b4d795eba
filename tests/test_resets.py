"""What survivors and pruned places restart from: properties of every reset, and numbers of some."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import Bench, Counting, random_mask, same_bits, same_state, tiny_data, tiny_recipe
from torch import Tensor, nn

from tombola.answers import Pruned
from tombola.errors import UsageError
from tombola.experiment import prepare, run
from tombola.masks import Mask
from tombola.models.fully_connected import mlp
from tombola.registry import chosen
from tombola.requests import ProbeSpec
from tombola.resets import (
    RESETS,
    RESETS_PRUNED,
    FineTune,
    Ground,
    LrRewind,
    Remake,
    Restarting,
    Rewind,
    Started,
    facts_of,
    reset_of,
    written,
)
from tombola.specs import canonical
from tombola.starts import Made
from tombola.store import Store
from tombola.streams import seeded
from tombola.tickets import stored_ticket
from tombola.training.enforce import apply_mask
from tombola.training.evaluation import evaluate
from tombola.training.state import state_of

WAYS = {"rewind", "lr-rewind", "fine-tune"}  # ways of training on: they make no weights
REMAKES = [name for name in RESETS if name not in WAYS]
PRUNED = [name for name in RESETS_PRUNED if name != "zero"]


def conv(dtype: torch.dtype = torch.float64) -> nn.Module:
    with seeded(3):
        model = nn.Sequential(
            nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(24, 9), nn.Linear(9, 4)
        )
    return model.to(dtype)


def ground(seed: int = 5, dtype: torch.dtype = torch.float64, density: float = 0.4) -> Ground:
    """Initial weights, trained ones that lie somewhere about them, and a mask."""
    model = conv(dtype)
    generator = torch.Generator().manual_seed(8)
    initial = state_of(model)
    trained = {
        n: v + 0.1 * torch.randn(v.shape, generator=generator).to(v.dtype) if v.is_floating_point() else v
        for n, v in initial.items()
    }
    return Ground(initial=initial, trained=trained, mask=random_mask(model, density), seed=seed)


def pruned_of(name: str) -> Remake:
    found: Remake = chosen(name, RESETS_PRUNED, "reset_pruned")
    return found


def remake(name: str) -> Remake:
    found = reset_of(name)
    assert not isinstance(found, Rewind | LrRewind | FineTune)
    return found


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", REMAKES)
def test_a_reset_changes_masked_tensors_alone(name: str, dtype: torch.dtype) -> None:
    g = ground(dtype=dtype)
    before = {n: v.clone() for n, v in g.initial.items()}
    found = remake(name)(g)
    assert list(found) == list(before)
    assert same_state(dict(g.initial), before)
    for tensor, value in found.items():
        assert (value.shape, value.dtype) == (before[tensor].shape, before[tensor].dtype)
        assert bool(value.isfinite().all())
        assert value.data_ptr() != g.initial[tensor].data_ptr()
        if tensor not in g.mask:
            assert same_bits(value, before[tensor])
            continue
        kept = g.mask[tensor]
        dense = facts_of(reset_of(name)).dense
        assert same_bits(value[kept], before[tensor][kept]) == dense
        assert same_bits(value[~kept], before[tensor][~kept]) != dense
    assert canonical(reset_of(name))


@pytest.mark.parametrize("name", [name for name in REMAKES if name != "signed_constant"])
def test_draws_go_by_the_seed_and_the_tensor(name: str) -> None:
    one, same, other = (remake(name)(ground(seed)) for seed in (5, 5, 6))
    assert same_state(one, same)
    for tensor in ground().mask:
        assert not same_bits(one[tensor], other[tensor])
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))  # equal tensors draw differently
    with torch.no_grad():
        model[0].weight.copy_(torch.randn(6, 6, generator=torch.Generator().manual_seed(1)))
    weight = model[0].weight.detach()
    mask = Mask(dict.fromkeys(("0.weight", "1.weight"), weight > -0.5))
    state = {n: weight.clone() for n in mask}
    made = remake(name)(Ground(initial=state, trained={}, mask=mask, seed=1))
    assert not same_bits(made["0.weight"], made["1.weight"])


def each(g: Ground, found: dict[str, Tensor]) -> list[tuple[Tensor, Tensor, Tensor]]:
    """(whole initial tensor, its survivors, what became of them) of each masked tensor."""
    return [(g.initial[n], g.initial[n][kept], found[n][kept]) for n, kept in g.mask.items()]


@pytest.mark.parametrize("name", ["signed_constant", "signed_reinit", "signed_reshuffle"])
def test_signs_are_kept(name: str) -> None:
    g = ground()
    for _, before, after in each(g, remake(name)(g)):
        assert torch.equal(before.sign(), after.sign())


@pytest.mark.parametrize("name", ["rand_signed_constant", "rand_signed_reinit", "rand_signed_reshuffle"])
def test_random_signs_are_fair_coins_and_nobody_elses(name: str) -> None:
    with seeded(1):
        weight = nn.Linear(200, 200).weight.detach()
    mask = Mask({"w": torch.rand(200, 200, generator=torch.Generator().manual_seed(2)) < 0.5})
    g = Ground(initial={"w": weight}, trained={}, mask=mask, seed=3)
    ((_, before, after),) = each(g, remake(name)(g))
    n = len(after)
    assert abs(float((after > 0).sum()) - n / 2) < 5 * (n / 4) ** 0.5
    assert abs(float((after.sign() == before.sign()).sum()) - n / 2) < 5 * (n / 4) ** 0.5
    plain = remake(name.removeprefix("rand_").replace("signed_constant", "constant"))(g)["w"][mask["w"]]
    assert torch.equal(after.abs(), plain.abs()), "the magnitudes are those of the form that keeps signs"


def test_multisets_and_constants() -> None:
    g = ground()
    for _, before, after in each(g, remake("reshuffle")(g)):
        assert torch.equal(before.sort().values, after.sort().values)
    for name in ("signed_reshuffle", "rand_signed_reshuffle"):
        for _, before, after in each(g, remake(name)(g)):
            assert torch.equal(before.abs().sort().values, after.abs().sort().values)
    for whole, before, after in each(g, remake("reinit")(g)):
        assert set(after.tolist()) <= set(whole.flatten().tolist())
        assert len(set(after.tolist())) == len(after), "without replacement"
        assert not set(after.tolist()) <= set(before.tolist())
    for _, before, after in each(g, remake("resample")(g)):
        assert set(after.tolist()) <= set(before.tolist())
        assert len(set(after.tolist())) < len(before)
    for choice, scale in (("constant", 1.0), ("rand_signed_constant", 1.0), ("signed_constant:scale=0.5", 0.5)):
        for whole, _, after in each(g, remake(choice)(g)):
            deviation = float(((whole - whole.mean()) ** 2).mean().sqrt())
            assert torch.allclose(after.abs(), torch.full_like(after, scale * deviation), rtol=1e-12)


def test_wiggling_is_noise_of_so_many_deviations() -> None:
    weight = torch.randn(100, 100, dtype=torch.float64, generator=torch.Generator().manual_seed(4)) * 0.3 + 1
    mask = Mask({"w": torch.arange(10_000).view(100, 100) % 2 == 0})
    g = Ground(initial={"w": weight}, trained={}, mask=mask, seed=3)
    half, three = ((remake(f"wiggle:c={c}")(g)["w"] - weight)[mask["w"]] for c in (0.5, 3))
    assert abs(float(half.std() / weight.std()) - 0.5) < 0.03
    assert abs(float(half.mean())) < 0.01
    assert torch.allclose(half * 6, three, atol=1e-12), "the same direction, farther"


def test_losers_are_drawn_from_the_whole_layer() -> None:
    g = ground(density=0.5)
    found = remake("redraw_losers")(g)
    for name, kept in g.mask.items():
        assert set(found[name][~kept].tolist()) <= set(g.initial[name].flatten().tolist())
    assert facts_of(reset_of("redraw_losers")).dense


def test_tied_tensors_are_written_under_all_their_names() -> None:
    one = torch.randn(4, 4, generator=torch.Generator().manual_seed(1))
    state = {"up.weight": one, "down.weight": one.clone(), "zeros": torch.zeros(4, 4), "more": torch.zeros(4, 4)}
    g = Ground(initial=state, trained={}, mask=Mask({"down.weight": one > 0}), seed=1)
    found = remake("reinit")(g)
    assert same_bits(found["up.weight"], found["down.weight"]) and not same_bits(found["up.weight"], one)
    assert same_state(written(state, {"zeros": one}), {**state, "zeros": one})


@pytest.mark.parametrize("choice", ["signed_constant:scale=0", "wiggle:c=-1", "rand_signed_constant:scale=nan"])
def test_options_out_of_range_are_refused(choice: str) -> None:
    with pytest.raises(UsageError, match="expected a finite number above 0"):
        reset_of(choice)


@pytest.mark.parametrize("name", PRUNED)
def test_constants_of_pruned_places(name: str) -> None:
    g = ground()
    reset = pruned_of(name)
    before = {n: v.clone() for n, v in g.initial.items()}
    found = reset(g)
    assert same_state(dict(g.initial), before) and same_state(found, reset(g)) and canonical(reset)
    for tensor, kept in g.mask.items():
        first, last = g.initial[tensor][~kept], g.trained[tensor][~kept]
        inwards, made = first.abs() > last.abs(), found[tensor][~kept]
        assert 0 < int(inwards.sum()) < len(inwards)
        if name == "freeze_reinit":
            assert set(made.tolist()) <= set(g.initial[tensor].flatten().tolist()) and not torch.equal(made, first)
            continue
        zeros = {
            "freeze_init": torch.zeros_like(inwards),
            "freeze_init_zero_mask": inwards,
            "freeze_init_zero_mask_rev": first.abs() < last.abs(),
        }.get(name.replace("_all", "_mask"))
        if zeros is None:
            zeros = made == 0
            assert int(zeros.sum()) == int(inwards.sum()) and not torch.equal(zeros, inwards)
        assert torch.equal(made, first.masked_fill(zeros, 0))


def test_a_pruned_weight_that_does_not_exist_stands_at_zero() -> None:
    g = ground()
    found = pruned_of("zero")(g)
    assert all(not bool(found[name].any()) for name in g.mask)
    assert same_bits(found["1.running_var"], g.initial["1.running_var"])


@pytest.mark.parametrize("name", [name for name in PRUNED if "_all" in name])
def test_survivors_that_moved_towards_zero_start_there(name: str) -> None:
    g, pruned = ground(), pruned_of(name)
    assert isinstance(pruned, Restarting)
    for reset in (None, remake("signed_constant")):
        start = dict(g.initial) if reset is None else reset(g)
        found = Started(reset=reset, pruned=pruned)(g)
        for tensor, kept in g.mask.items():
            first, last = g.initial[tensor][kept].abs(), g.trained[tensor][kept].abs()
            zeros = found[tensor][kept] == 0
            wanted = first < last if name.endswith("_rev") else first > last
            assert int(zeros.sum()) == int(wanted.sum()) > 0
            assert torch.equal(zeros, wanted) == (not name.endswith("_reshuffle"))
            assert torch.equal(found[tensor][kept][~zeros], start[tensor][kept][~zeros])
        assert same_bits(found["0.bias"], g.initial["0.bias"])
    assert not isinstance(pruned_of("freeze_init"), Restarting)


# --- in experiments


def go(place: Path, **changes: Any) -> tuple[Counting, Any]:
    watcher = Counting()
    recipe = tiny_recipe(**{"replicates": 1, "levels": 2, "controls": ("shuffled", "untrained"), **changes})
    results = run(recipe, data=tiny_data(), store=place, watcher=watcher)
    assert results.failures == () and watcher.failures == []
    return watcher, results


@pytest.mark.parametrize("k", [0, 20])
@pytest.mark.parametrize("reset", ["signed_constant:scale=2", "reinit"])
def test_a_ticket_starts_from_what_the_reset_makes(tmp_path: Path, reset: str, k: int) -> None:
    """The first evaluation is that of the remade survivors under the mask, and `ticket save` holds just them."""
    watcher, results = go(tmp_path, reset=reset, rewind_to=k)
    store, bench = Store(tmp_path), Bench(lambda: mlp((8, 16, 3)), tiny_recipe().training())
    dense = store.state(watcher.trained(0).states[k])
    for level in (1, 2):
        cut = watcher.answers[level, 0, "cut"]
        assert isinstance(cut, Pruned)
        ((request),) = [job.request for job in watcher.jobs if job.digest == watcher.trained(level).request]
        assert isinstance(request.start, Made)
        wanted = remake(reset)(Ground(initial=dense, trained={}, mask=cut.mask, seed=request.start.seed))
        model = bench.fresh(wanted)
        apply_mask(model, cut.mask)
        point = watcher.trained(level).curve.points[0]
        assert (point.step, point.test_loss) == (k, evaluate(model, bench.sets.test, bench.sets, bench.training)[0])
        saved = stored_ticket(store, results.experiment, level=level)
        assert saved.seed is None and same_state(dict(saved.ticket.weights), state_of(model))
        other = watcher.trained(level, "shuffled")
        assert other.curve.points[0].test_loss != point.test_loss
    again, same = go(tmp_path, reset=reset, rewind_to=k)
    assert again.jobs == [] and same == results


def test_the_trained_weights_of_a_reset_are_made_again_when_lost(tmp_path: Path) -> None:
    """`freeze_init_zero_all` looks at the end of the training before; so does its ticket when it is trained again."""
    first, results = go(tmp_path, reset_pruned="freeze_init_zero_all", controls=())
    store = Store(tmp_path)
    for answer in (first.trained(1), first.trained(2)):
        store.object_path(answer.states[60]).unlink()
    again, same = go(tmp_path, reset_pruned="freeze_init_zero_all", controls=())
    assert same == results and len(again.jobs) == 2
    assert again.trained(2).states == first.trained(2).states


def test_a_network_that_trains_whole(tmp_path: Path) -> None:
    watcher, results = go(tmp_path, reset="redraw_losers")
    rows = results.document["arms"]["ticket"]
    assert [row["density"] for row in rows] == [1, 1, 1]
    ends = [Store(tmp_path).state(watcher.trained(level).states[60]) for level in (1, 2)]
    cuts = [watcher.answers[level, 0, "cut"] for level in (1, 2)]
    for cut, end in zip(cuts, ends, strict=True):
        assert isinstance(cut, Pruned)
        assert all(bool(end[name][~kept].all()) for name, kept in cut.mask.items())
    with pytest.raises(UsageError, match="trains the network whole"):
        stored_ticket(Store(tmp_path), results.experiment, level=1)


def test_an_untrained_control_is_an_evaluation(tmp_path: Path) -> None:
    watcher, results = go(tmp_path)
    store, bench = Store(tmp_path), Bench(lambda: mlp((8, 16, 3)), tiny_recipe().training())
    for row in results.document["arms"]["untrained"]:
        answer = watcher.trained(row["level"], "untrained")
        cut = watcher.answers[row["level"], 0, "cut"]
        assert isinstance(cut, Pruned)
        model = bench.fresh(store.state(watcher.trained(0).states[0]))
        apply_mask(model, cut.mask)
        _, accuracy = evaluate(model, bench.sets.test, bench.sets, bench.training)
        assert (answer.first, answer.last, len(answer.curve.points)) == (0, 0, 1)
        assert row["test_accuracy"] == row["test_accuracy_at_early_stop"] == accuracy
        assert row["early_stop_step"] is None and not row["diverged"]


def test_rewinding_the_learning_rate_goes_on_from_trained_weights(tmp_path: Path) -> None:
    watcher, _ = go(tmp_path, reset="lr-rewind", rewind_to=20)
    store, bench = Store(tmp_path), Bench(lambda: mlp((8, 16, 3)), tiny_recipe().training())
    for level in (1, 2):
        cut = watcher.answers[level, 0, "cut"]
        assert isinstance(cut, Pruned)
        before = bench.fresh(store.state(watcher.trained(level - 1).states[60]))
        apply_mask(before, cut.mask)
        point = watcher.trained(level).curve.points[0]
        assert (point.step, watcher.trained(level).last) == (20, 60)
        assert point.test_loss == evaluate(before, bench.sets.test, bench.sets, bench.training)[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"controls": ("random-labels",)}, "random-labels corrupts .* magnitude does not look at labels"),
        ({"controls": ("random-labels",), "criterion": "wanda"}, "Wanda does not look at labels"),
        ({"controls": ("random-inputs",), "criterion": "synflow"}, "SynFlow does not look at inputs"),
        ({"criterion": "snip", "probe": ProbeSpec(size=10**6)}, "asks for 1 x 1000000 examples; the training set has"),
        ({"reset": "redraw_losers", "reset_pruned": "freeze_init"}, "trains the network whole"),
        ({"reset": "fine-tune", "reset_pruned": "freeze_init_zero_all"}, "puts survivors back to 0"),
        ({"reset": "reinitt"}, "Did you mean 'reinit'"),
        ({"reset_pruned": "freeze"}, "Did you mean 'freeze_init'"),
    ],
)
def test_what_does_not_go_together_is_refused_at_once(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        prepare(tiny_recipe(**changes), data=tiny_data())


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], tuple[float, float]]:
    """(reset, reset_pruned) -> test accuracies on digits at 30 % of the weights: trained, and untrained."""
    place = tmp_path_factory.mktemp("digits")
    fixed = {"levels": 1, "schedule": "one-shot:density=0.3", "steps": 200, "replicates": 1, "search": "oneshot"}

    def accuracies(reset: str, reset_pruned: str) -> tuple[float, float]:
        chosen_ones = {"reset": reset, "reset_pruned": reset_pruned, "controls": ("untrained",)}
        arms = run("digits-lenet", store=place, **fixed, **chosen_ones).document["arms"]
        return arms["ticket"][1]["test_accuracy"], arms["untrained"][0]["test_accuracy"]

    return accuracies


def test_it_is_the_signs_that_matter(digits: Callable[[str, str], tuple[float, float]]) -> None:
    """Zhou et al. 2019: a mask over constants of the right signs classifies untrained, with random signs it guesses."""
    rewound, constant = digits("rewind", "zero"), digits("signed_constant", "zero")
    tossed = digits("rand_signed_constant", "zero")
    assert rewound[1] > 0.6 and constant[1] > 0.7 and tossed[1] < 0.4  # about 0.85, 0.95 and 0.1
    assert constant[0] > rewound[0] - 0.04


def test_masking_is_training(digits: Callable[[str, str], tuple[float, float]]) -> None:
    """Zhou et al. 2019: what moved towards 0 is put there, and the untrained network classifies; frozen at init it
    guesses."""
    assert digits("rewind", "freeze_init_zero_all")[1] > 0.6  # about 0.9
    assert digits("rewind", "freeze_init")[1] < 0.4
