"""The page of a league in Chromium: nothing is fetched, nothing complains, nothing overflows, light and dark."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_page import measured

from tombola.league.divisions import DIVISIONS
from tombola.league.page import league_page


def document() -> dict[str, object]:
    """Two divisions with names as long as they come; half of the scores are missing."""

    def compared(value: float) -> dict[str, object]:
        tests = {"p_better": 0.01, "p_worse": 0.99, "better": value > 0, "worse": value < 0}
        return {"difference": value, "low": value - 0.1, "high": value + 0.1, "replicates": 5, **tests}

    def score(density: float, number: int) -> dict[str, object]:
        accuracy = {"mean": 0.9 - 0.01 * number, "low": 0.7, "high": 1.0, "replicates": 5} if number % 2 else None
        controls = {"shuffled": {"accuracy": accuracy, **compared(0.1)}}
        return {
            "density": density,
            "accuracy": accuracy,
            "against": {"random": compared(-0.1), "magnitude": compared(0.2)},
            "controls": controls,
        }

    densities = [0.2, 0.1, 0.05, 0.02, 0.01]
    competitors = [
        {
            "name": f"pruned:freeze_init_zero_all_reshuffle {number}",
            "rank": number + 1,
            "mean": 0.9,
            "notes": [f"20 %, 5 of 5 replicates: cut: {'it failed ' * 20}"],
            "experiments": ["0" * 32],
            "scores": [score(density, number) for density in densities],
        }
        for number in range(30)
    ]
    common = {"arm": "ticket", "rivals": ["random", "magnitude"], "controls": ["shuffled"], "harmless": []}
    dense = {"mean": 0.97, "low": 0.96, "high": 0.98, "replicates": 5}
    divisions = [
        {"name": name, "title": name, "dense": dense, "competitors": competitors, **common}
        for name in list(DIVISIONS)[:2]
    ]
    head = {"recipe": "digits-lenet", "data": "digits", "model": "lenet-300-100", "steps": 1200, "replicates": 5}
    return {"schema": 1, **head, "densities": densities, "endpoint": "end", "margin": 0.01, "divisions": divisions}


@pytest.mark.parametrize(("width", "flags"), [(400, ()), (1200, ("--blink-settings=preferredColorScheme=0",))])
def test_every_figure_is_seen_and_nothing_overflows(width: int, flags: tuple[str, ...], tmp_path: Path) -> None:
    found, console = measured(league_page(document(), details={"Run again": "tombola league"}), tmp_path, width, *flags)
    assert found["inner"] == width
    assert (found["dark"] == "rgb(20, 23, 27)") == bool(flags)
    assert [figure["name"] for figure in found["figures"]] == list(DIVISIONS)[:2]
    for figure in found["figures"]:
        assert 0 <= figure["left"] < figure["right"] <= width, figure
        assert figure["marks"] > 100, figure
        assert figure["out"] == [], figure
    assert found["wide"] == found["cut"] == found["fetched"] == []
    assert found["page"] <= width
    assert console == []
