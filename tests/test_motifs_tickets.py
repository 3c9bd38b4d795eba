"""The ticket experiment on gene networks, and the statistics of shares."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from cli_helpers import call, document, good
from scipy.stats import binomtest

from tombola.errors import UsageError
from tombola.motifs import GeneTask
from tombola.motifs.tickets import ARMS, COMPARED, DENSE, Terms, experiments, played, told
from tombola.statistics import mcnemar, wilson
from tombola.store import Store

SMALL = ("motif", "ticket", "--starts", 4, "--genes", 3, "--keep", 5, "--rounds", 4, "--success", 0)


def test_wilson_is_scipys() -> None:
    for n, confidence in itertools.product((1, 7, 40), (0.9, 0.95)):
        for successes in range(n + 1):
            found = wilson(successes, n, confidence)
            theirs = binomtest(successes, n).proportion_ci(confidence, method="wilson")
            assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
            assert found.share == successes / n
    assert wilson(0, 0).share is None
    for wrong in ((-1, 3, 0.95), (4, 3, 0.95), (1, 3, 1.0)):
        with pytest.raises(UsageError):
            wilson(*wrong)


def test_mcnemar_is_the_binomial_test_of_pairs_that_differ() -> None:
    for one, other in itertools.product(range(7), repeat=2):
        found = mcnemar([(True, False)] * one + [(False, True)] * other + [(True, True), (False, False)])
        assert found == pytest.approx(binomtest(one, one + other).pvalue if one + other else 1.0)
    assert mcnemar([]) is None


def rewards(**arms: list[float]) -> dict[str, dict[int, float]]:
    usual = {arm: [25.0] * 6 for arm in (DENSE, *ARMS)}
    return {arm: dict(enumerate(values)) for arm, values in {**usual, **arms}.items()}


def test_only_starts_whose_dense_climb_succeeds_count() -> None:
    found = told(rewards(dense=[25.0, 19.9, 20.0, 30.0, 0.0, 40.0], reinit=[0.0, 9.0, 21.0, 0.0, 9.0, 0.0]), Terms())
    assert found["among"] == [0, 2, 3, 5] and found["starts"] == 6
    arm = next(arm for arm in found["arms"] if arm["arm"] == "reinit")
    assert (arm["n"], arm["successes"], arm["mean"]) == (4, 1, 5.25)
    one = next(one for one in found["comparisons"] if (one["one"], one["other"]) == ("rewind to start", "reinit"))
    assert one["difference"] == 19.75 and one["success_p"] == mcnemar([(True, False)] * 3 + [(True, True)])
    assert "No ticket is shown: over 0 starts" in told(rewards(dense=[0.0] * 6), Terms())["sentence"]


def test_a_ticket_must_beat_both_controls_after_holm() -> None:
    low = [3.0, 1.0, 0.0, 2.0, 4.0, 1.0]
    both = told(rewards(**{"reinit": low, "random mask": low}), Terms())
    assert both["sentence"].startswith("A ticket is shown: over 6 starts")
    assert [(one["one"], one["other"]) for one in both["comparisons"]] == list(COMPARED)
    assert all(one["p"] >= one["unadjusted_p"] for one in both["comparisons"])
    one = told(rewards(reinit=low), Terms())["sentence"]
    assert (
        one == "No ticket is shown: over 6 starts, rewinding to the start is not shown to earn more than random mask."
    )
    late = told(rewards(**{"rewind to start": low, "reinit": low, "random mask": low}), Terms())
    assert late["sentence"].startswith("No ticket is shown")


def test_arms_share_dense_climb_and_mask(tmp_path: Path) -> None:
    task, terms, store = GeneTask(steps=4, genes=3), Terms(starts=2, keep=5, success=0.0), Store(tmp_path)
    found = played(task, terms, store)
    assert list(found) == [DENSE, *ARMS] and all(set(there) == {0, 1} for there in found.values())
    digests, masks = set(), set()
    for experiment in experiments(task, terms).values():
        _, content = store.experiment(experiment.digest)
        rows = [row for row in content["rows"] if row["replicate"] == 0]
        digests |= {row["request"] for row in rows if row["level"] == 0 and row["arm"] == "ticket"}
        tickets = [row["request"] for row in rows if row["level"] == 1 and row["arm"] == "ticket"]
        masks |= {getattr(store.get(digest), "mask_digest", None) for digest in tickets}
        assert getattr(store.get(tickets[0]), "kept", None) == {"edges.weight": 5}
    assert len(digests) == len(masks) == 1
    assert played(task, terms, store) == found
    with pytest.raises(UsageError, match="keep is 9 of 9 edges"):
        experiments(task, Terms(keep=9))
    with pytest.raises(UsageError, match="rewind_to is 4"):
        experiments(task, Terms(keep=5, late=4))


def test_the_command(tmp_path: Path) -> None:
    called = good(*SMALL, "--store", tmp_path / "store", "--json", tmp_path / "found.json")
    assert "4 random networks of 3 genes, 5 of 9 edges kept; the 4 whose dense climb reaches 0:" in called.out
    assert [line.split("  ")[0] for line in called.out.splitlines()[2:9]] == ["arm", DENSE, *ARMS]
    found = document(tmp_path / "found.json")
    assert found["genes"] == 3 and len(found["rewards"]["reinit"]) == 4 and found["sentence"] in called.out
    again = good(*SMALL, "--store", tmp_path / "store", "--json", "-", "--quiet")
    assert again.json == found and again.err == ""
    for wrong, said in ((("--starts", 0), "starts is 0"), (("--keep", 9), "keep is 9"), (("--genes", 0), "genes is 0")):
        refused = call(*SMALL, *wrong, "--store", tmp_path / "store")
        assert refused.code == 2 and said in refused.err and "Traceback" not in refused.err
