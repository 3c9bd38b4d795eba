"""Known mistakes in statistics, analyses, reports, leagues and commands."""

from __future__ import annotations

from mistakes.base import Mutant

__all__ = ["MUTANTS"]

MUTANTS = (
    Mutant(
        name="a league claims every difference that one test by itself would show",
        file="league/standings.py",
        good="    better = holm([None if found is None else greater(found).p for found in tested])",
        bad="    better = [None if found is None else greater(found).p for found in tested]",
        tests="tests/test_league_standings.py",
    ),
    Mutant(
        name="who fails at the hardest density of a league wins by the mean of the others",
        file="league/standings.py",
        good="    return -len(known), -sum(known)",
        bad="    return 0, -sum(known)",
        tests="tests/test_league_standings.py",
    ),
    Mutant(
        name="large noise counts as harmless after smaller noise has done harm",
        file="league/harmless.py",
        good="                break\n",
        bad="                continue\n",
        tests="tests/test_league_standings.py",
    ),
    Mutant(
        name="an experiment of a league notes its rows under the numbers of the league's searches",
        file="league/running.py",
        good="replace(row, place=replace(row.place, replicate=seat.replicate))",
        bad="row",
        tests="tests/test_league.py",
    ),
    Mutant(
        name="the estimate of a league takes all masks that are not made yet for one",
        file="league/estimate.py",
        good='(found.digest, "" if found.stored else found.cut)',
        bad='(found.digest, "")',
        tests="tests/test_league.py",
    ),
)
