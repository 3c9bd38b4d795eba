"""Gene networks and their dynamics as data: the seven motifs, who reaches gene 1, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tombola.errors import UsageError
from tombola.motifs import MOTIFS, Dynamics, GeneNetwork
from tombola.motifs.network import read_network, silence, upstream
from tombola.specs import digest

CHAIN = GeneNetwork(weights=((0, 5, 0), (0, 0, 0), (0, 7, -3)), morphogen=(0, 1, 1))


def test_the_seven_motifs_are_those_of_the_source() -> None:
    assert {name: len(motif.network.edges) for name, motif in MOTIFS.items()} == {
        "9": 46, "22": 12, "1": 9, "2": 14, "2b": 4, "8": 20, "4": 45,
    }  # fmt: skip
    sums = {name: (sum(map(sum, motif.printed)), motif.network.genes) for name, motif in MOTIFS.items()}
    assert sums == {
        "9": (31, 7),
        "22": (-25, 4),
        "1": (80, 4),
        "2": (-10, 4),
        "2b": (65, 2),
        "8": (90, 5),
        "4": (380, 7),
    }


def test_rows_are_what_acts_on_a_gene() -> None:
    direct, turned = MOTIFS["9"], MOTIFS["1"]
    assert direct.network.weights[0][1] == direct.printed[0][1] == 12
    assert turned.network.weights[0][1] == turned.printed[1][0] == 100
    assert turned.network.transposed().weights == tuple(tuple(map(float, row)) for row in turned.printed)
    assert MOTIFS["8"].dynamics == dataclasses.replace(Dynamics(), offset=2.0)


def test_edges_and_what_is_left_without_some() -> None:
    assert CHAIN.edges == ((0, 1), (2, 1), (2, 2))
    assert CHAIN.without([(2, 1)]).edges == ((0, 1), (2, 2))
    assert CHAIN.without([(1, 1)]) == CHAIN
    assert digest(CHAIN) != digest(CHAIN.without([(2, 1)]))
    given = np.array(CHAIN.weights, dtype="float32")
    assert GeneNetwork(weights=given, morphogen=torch.tensor([0, 1, 1])) == CHAIN  # type: ignore[arg-type]


def test_who_reaches_a_gene_and_why_there_is_no_pattern() -> None:
    assert [sorted(upstream(CHAIN, gene)) for gene in range(3)] == [[0, 1], [1], [1, 2]]
    assert silence(CHAIN, 0) is None
    deaf = dataclasses.replace(CHAIN, morphogen=(0, 0, 1))
    assert "no gene that reads the morphogen has a path to it" in str(silence(deaf, 0))
    assert silence(deaf, 2) is None
    assert "no gene reads the morphogen" in str(silence(dataclasses.replace(CHAIN, morphogen=(0, 0, 0)), 0))


@pytest.mark.parametrize(
    ("weights", "morphogen", "said"),
    [
        (((1, 2), (3,)), (1, 1), "row 2 of weights has 1 numbers for 2 rows; expected a square matrix"),
        (((1, 2, 0), (3, 4, 0)), (1, 1), "row 1 of weights has 3 numbers for 2 rows"),
        (((1, float("nan")), (3, 4)), (1, 1), "number 2 of row 1 of weights is nan; expected a finite number"),
        (((1, 2), (3, 4)), (1, float("inf")), "number 2 of morphogen is inf; expected a finite number"),
        (((1, 2), (3, 4)), (1,), "morphogen has 1 numbers for 2 genes"),
        (((1, 2), (-101, 4)), (1, 1), "number 1 of row 2 of weights is -101; expected one within -100 to 100"),
        (((1, 2), (3, 4)), (1, 10**400), "expected one within -100 to 100"),
        (((1, "2"), (3, 4)), (1, 1), "number 2 of row 1 of weights is 2; expected a number"),
        (((1, True), (3, 4)), (1, 1), "is True; expected a number"),
        ("12", (1, 1), "weights is '12'; expected a list of rows"),
        ((1, 2), (1, 1), "row 1 of weights is '1'; expected a list of numbers"),
        ((), (), "weights has 0 rows; expected one for each of 1 to 64 genes"),
        (((0,) * 65,) * 65, (0,) * 65, "weights has 65 rows"),
    ],
)
def test_what_is_no_network(weights: Any, morphogen: Any, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        GeneNetwork(weights=weights, morphogen=morphogen)
    assert said in str(refused.value)
    assert len(str(refused.value)) < 250


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cells": 1}, "cells is 1; expected a whole number, 2 or more"),
        ({"substeps": 0}, "substeps is 0; expected a whole number, 1 or more"),
        ({"intervals": 2.5}, "intervals is 2.5; expected a whole number"),
        ({"duration": 0.0}, "duration is 0.0; expected a finite number above 0"),
        ({"scale": -1.0}, "scale is -1.0; expected a finite number above 0"),
        ({"offset": float("nan")}, "offset is nan; expected a finite number"),
        ({"output": -1}, "output is -1"),
    ],
)
def test_what_are_no_dynamics(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as refused:
        Dynamics(**change)
    assert said in str(refused.value)


def test_the_front_moves_two_cells_in_a_unit_of_time() -> None:
    moves = Dynamics()
    for time in (0.0, 10.0, 31.5):
        assert [moves.wave(cell, time) == 1 for cell in range(100)] == [cell >= 2 * time for cell in range(100)]
    assert moves.wave(0, 10.0) == pytest.approx(np.exp(-0.8), abs=1e-15)
    assert moves.step == pytest.approx(90 / 398)


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "motif.json"
    path.write_text(json.dumps(CHAIN.document()))
    assert read_network(path) == CHAIN
    for text, said in [
        ('{"weights": [[1]]}', "holds weights; expected"),
        ("[1]", "holds list; expected"),
        ("{", "is no JSON file"),
        ('{"weights": [[NaN]], "morphogen": [1]}', "motif.json: number 1 of row 1 of weights is nan"),
    ]:
        path.write_text(text)
        with pytest.raises(UsageError) as refused:
            read_network(path)
        assert said in str(refused.value)
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_network(tmp_path / "none.json")


def test_data_need_no_torch() -> None:
    code = "import sys, tombola.motifs.seeds; print(*{'torch', 'numpy'} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"
