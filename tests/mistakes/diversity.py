"""Known mistakes in searches for diverse gene networks."""

from __future__ import annotations

from mistakes.base import Mutant

__all__ = ["MUTANTS"]

MUTANTS = (
    Mutant(
        name="the newest network takes a cell, however poor it is",
        file="motifs/elites.py",
        good="            if found.fitness[place] > self.fitness[row, column]:\n",
        bad="            if found.fitness[place] >= 0:\n",
        tests="tests/test_motifs_diverse.py",
    ),
    Mutant(
        name="children drop no edges",
        file="motifs/population.py",
        good="    child = torch.where(dropping & there & (rank < dropped), 0.0, child)\n",
        bad="",
        tests="tests/test_motifs_diverse.py",
    ),
    Mutant(
        name="the policy sees the choice that it makes",
        file="motifs/flow.py",
        good=".tril(-1)[None",
        bad=".tril(0)[None",
        tests="tests/test_motifs_diverse.py",
    ),
    Mutant(
        name="the flow forgets beta",
        file="motifs/flow.py",
        good="target = beta * (known.of(chosen) + floor).log()",
        bad="target = (known.of(chosen) + floor).log()",
        tests="tests/test_motifs_diverse.py",
    ),
    Mutant(
        name="the archive forgets its loneliest member",
        file="motifs/novelty.py",
        good="ordered[:, 0].min()",
        bad="ordered[:, 0].max()",
        tests="tests/test_motifs_novelty.py",
    ),
    Mutant(
        name="neighbours step upwards alone",
        file="motifs/landscape.py",
        good="torch.eye(len(middle)) * -step",
        bad="torch.eye(len(middle)) * step",
        tests="tests/test_motifs_landscape.py",
    ),
    Mutant(
        name="stripes of rounding are rewarded",
        file="motifs/judge.py",
        good="            if self.checked and len(rewarded):\n",
        bad="            if False:\n",
        tests="tests/test_motifs_diverse.py::test_stripes_of_rounding_are_worth_nothing",
    ),
)
