"""The paper's claims are judged by their tests, and never without data."""

from __future__ import annotations

from typing import Any

import pytest

from tombola.analysis.claims import CLAIMS, judge_claims


def row(replicate: int, level: int, accuracy: float, stop: int) -> dict[str, Any]:
    return {
        "replicate": replicate,
        "draw": 0,
        "level": level,
        "diverged": False,
        "test_accuracy_at_early_stop": accuracy,
        "early_stop_step": stop,
    }


def document(gain: float, speed: float, fall: float) -> dict[str, Any]:
    """Five replicates: tickets `gain` above dense at `speed` times its steps, reinits `fall` below and ever slower."""
    noise = (0.0, 0.0002, -0.0001, 0.0001, -0.0002)
    tickets, reinits = [], []
    for r, e in enumerate(noise):
        tickets.append(row(r, 0, 0.98 + e, 5000))
        for level in (3, 7, 9, 15, 16):
            value = 0.98 + (e if level >= 15 else -e) + (gain if level < 15 else 0.0)
            tickets.append(row(r, level, value, round(5000 * speed) + 10 * r))
        for level in (1, 7, 15):
            reinits.append(row(r, level, 0.98 - fall - 2 * e, 4000 + 200 * level + 10 * r))
    return {"schema": 1, "arms": {"ticket": tickets, "reinit": reinits}}


def test_what_the_paper_found_is_held() -> None:
    judged = judge_claims(document(gain=0.004, speed=0.62, fall=0.005), margin=0.002)
    assert [j.verdict for j in judged] == ["held"] * len(CLAIMS)
    assert "+0.40 points" in judged[0].ours and "n = 5" in judged[0].ours
    assert "0.62 x the steps" in judged[2].ours


def test_the_opposite_is_not_held() -> None:
    judged = {j.claim: j.verdict for j in judge_claims(document(gain=-0.01, speed=1.5, fall=-0.01), margin=0.002)}
    broken = [claim for claim, verdict in judged.items() if verdict == "not held"]
    assert len(broken) == 7
    assert judged["At 3.6 % accuracy is back at the dense network's"] == "held"


def test_one_replicate_is_inconclusive_and_none_is_not_measured() -> None:
    whole = document(gain=0.004, speed=0.62, fall=0.005)
    one = {"schema": 1, "arms": {a: [r for r in rows if r["replicate"] == 0] for a, rows in whole["arms"].items()}}
    assert {j.verdict for j in judge_claims(one, margin=0.002)} == {"inconclusive"}
    nothing = judge_claims({"schema": 1, "arms": {}}, margin=0.002)
    assert {j.verdict for j in nothing} == {"not measured"}
    assert {j.ours for j in nothing} == {"-"}


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.text)
def test_every_claim_names_the_papers_number(claim: Any) -> None:
    assert claim.text and claim.paper
