"""Statistics summed along a training: their numbers, their resumption, and how criteria get them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import Bench, Counting, Recorder, order_by_hand, random_mask, same_state, tiny_data, tiny_recipe
from torch import Tensor, nn
from torch.nn import functional as F

from tombola.answers import Pruned
from tombola.criteria import Probe, needs
from tombola.errors import UsageError
from tombola.experiment import prepare, run
from tombola.masks import Mask
from tombola.models.fully_connected import mlp
from tombola.requests import Fit, Prune
from tombola.starts import At
from tombola.store import Store
from tombola.store.collect import collect
from tombola.store.files import read_json, write_json
from tombola.training.gather import Gathering, check_statistics
from tombola.training.loop import Stopped
from tombola.training.optimizers import Optimizer
from tombola.training.settings import Training

STEPS = 12


@needs(gathered=("movement",))
def moving(model: nn.Module, mask: Mask, probe: Probe) -> dict[str, Tensor]:
    """The sum itself."""
    return {name: value.clone() for name, value in probe.sums("moving", "movement", mask).items() if name in mask}


def bench(**further: Any) -> Bench:
    sgd = Optimizer(name="sgd", lr=0.05, momentum=0.9, weight_decay=0.01)
    training = Training(steps=STEPS, batch_size=20, eval_every=5, normalise="none", optimizer=sgd, **further)
    return Bench(lambda: mlp((8, 16, 3), seed=1).double(), training)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("further", [{}, {"l2": 0.1, "clip_norm": 0.05}], ids=["plain", "clipped"])
def test_movement_is_the_sum_of_minus_gradient_times_weight(masked: bool, further: dict[str, float]) -> None:
    """Of the loss's gradient, before penalties and clipping, and of the weight that it was taken at."""
    b = bench(**further)
    model = b.fresh()
    mask = random_mask(model, 0.5) if masked else None
    measured, events, _ = b.train(b.fit(mask=mask, gather=("movement",), keep=tuple(range(STEPS))))
    sums = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in Mask.dense(model).shapes.items()}
    for step, batch in enumerate(order_by_hand(b.sets.train_index, 20, 5, STEPS)):
        now = b.fresh(events.states[step])
        F.cross_entropy(now(b.sets.train.x[batch].double()), b.sets.train.y[batch]).backward()
        for name, weight in now.named_parameters():
            if name in sums:
                sums[name] -= weight.grad * weight.detach()  # type: ignore[operator]
    found = measured.gathered["movement"]
    assert list(found) == list(sums)
    for name, value in found.items():
        assert value.dtype == torch.float64
        assert torch.allclose(value, sums[name], rtol=1e-9, atol=1e-12)
        assert mask is None or not bool(value[~mask[name]].any())
        assert bool(value.any())


def test_gathering_changes_nothing_of_a_training() -> None:
    b = bench()
    (plain, one, _), (summed, two, _) = b.train(), b.train(b.fit(gather=("movement",)))
    assert plain.points == summed.points and same_state(one.states[STEPS], two.states[STEPS])
    assert dict(plain.gathered) == {} and list(summed.gathered) == ["movement"]


@pytest.mark.parametrize("stop", [1, 5, 11])
def test_sums_go_on_from_a_checkpoint_bit_for_bit(stop: int) -> None:
    b = bench()
    fit = b.fit(gather=("movement",))
    whole, _, _ = b.train(fit)
    events = Recorder(stop_at=stop)
    with pytest.raises(Stopped):
        b.train(fit, events=events)
    events.stop_at = None
    rest, _, _ = b.train(fit, events=events, resume=events.checkpoints[-1])
    assert same_state(rest.gathered["movement"], whole.gathered["movement"])
    assert bool(whole.gathered["movement"]["fc1.weight"].any())


def test_unknown_statistics_are_refused() -> None:
    layer = nn.Linear(2, 2)
    with pytest.raises(UsageError, match=r"Unknown statistic 'movment' .* Did you mean 'movement'\?"):
        Gathering(["movment"], layer, Mask.dense(layer))
    check_statistics(["movement"])
    b = bench()
    with pytest.raises(UsageError, match="Unknown statistic 'all'"):
        b.train(b.fit(gather=("all",)))


# --- in experiments


def go(place: Path, **changes: Any) -> tuple[Counting, Any]:
    watcher = Counting()
    chosen = {"replicates": 1, "criterion": "test_gather:moving", "controls": ("inverted",), **changes}
    results = run(tiny_recipe(**chosen), data=tiny_data(), store=place, watcher=watcher)
    assert results.failures == ()
    return watcher, results


def test_a_criterion_gets_the_sums_of_the_training_it_scores(tmp_path: Path) -> None:
    watcher, results = go(tmp_path)
    store = Store(tmp_path)
    for level in (1, 2):
        cut, before = watcher.answers[level, 0, "cut"], watcher.trained(level - 1)
        sums = store.state(before.gathered["movement"])
        assert isinstance(cut, Pruned)
        (request,) = [job.request for job in watcher.jobs if job.digest == cut.request]
        assert isinstance(request, Prune) and request.start == At(fit=before.request, step=60)
        for name, kept in cut.mask.items():
            gone = request.mask[name] & ~kept
            assert sums[name][kept].min() >= sums[name][gone].max()
        assert watcher.trained(level, "inverted").gathered == {}
    assert [job.request.gather for job in watcher.jobs if isinstance(job.request, Fit)].count(("movement",)) == 3
    assert watcher.trained(0).provenance["engine"] == "torch"
    assert collect(store).files == 0
    again, same = go(tmp_path)
    assert again.jobs == [] and same == results


def test_lost_sums_are_made_again(tmp_path: Path) -> None:
    first, results = go(tmp_path)
    store, dense = Store(tmp_path), first.trained(0)
    store.object_path(dense.gathered["movement"]).unlink()
    again, same = go(tmp_path)
    assert same == results and [job.digest for job in again.jobs] == [dense.request]
    assert again.trained(0).gathered == dense.gathered and Store(tmp_path).has(dense.gathered["movement"])
    store = Store(tmp_path)
    cut = first.answers[1, 0, "cut"]
    assert isinstance(cut, Pruned)
    store.answer_path(cut.request).unlink()
    store.object_path(dense.gathered["movement"]).unlink()
    third, same = go(tmp_path)
    assert same == results
    assert [job.digest for job in third.jobs] == [dense.request, cut.request]


def test_sums_that_come_out_otherwise_are_not_taken(tmp_path: Path) -> None:
    first, _ = go(tmp_path, controls=())
    store, dense = Store(tmp_path), first.trained(0)
    path = store.object_path(dense.gathered["movement"])
    other = store.keep({"fc1.weight": torch.ones(2)}, None)
    path.unlink()
    store.object_path(other).unlink()
    content = read_json(store.answer_path(dense.request))
    assert content is not None
    content.pop("sha256")
    content["answer"]["gathered"]["movement"] = other
    write_json(store.answer_path(dense.request), content)
    results = run(
        tiny_recipe(replicates=1, criterion="test_gather:moving", controls=()), data=tiny_data(), store=tmp_path
    )
    assert "does not give its stored state" in results.failures[0].cause


@pytest.mark.parametrize(("score_at", "said"), [("20", "step 20"), ("init", "init"), ("early-stop", "early-stop")])
def test_sums_are_those_of_a_whole_training(score_at: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=f"so it scores at its end, not at {said}"):
        prepare(tiny_recipe(criterion="test_gather:moving", score_at=score_at), data=tiny_data())
    prepare(tiny_recipe(criterion="test_gather:moving", score_at="60"), data=tiny_data())
    monkeypatch.setattr("tombola.native.why_not", lambda *given: None)
    with pytest.raises(UsageError, match="gathers statistics along the way"):
        prepare(tiny_recipe(criterion="test_gather:moving"), data=tiny_data(), engine="native")
