"""Users' modules times users' loops: every ticket is trained bit for bit as the reference trains it."""

from __future__ import annotations

import pytest
from own_loops import EXTRA, LOOPS, MODULES, check_cell

NO_HALF_PRECISION = ("lstm", "gradscaler")  # oneDNN has no LSTM in float16 on a CPU
CELLS = [(module, loop) for module in MODULES for loop in LOOPS if (module, loop) != NO_HALF_PRECISION]
MORE = [(module, loop) for module in ("mlp", "cnn+bn", "transformer") for loop in EXTRA]


def test_the_matrix_is_large_enough() -> None:
    assert len(MODULES) >= 14 and len(LOOPS) >= 9 and len(CELLS) >= 125


@pytest.mark.parametrize(("module", "loop"), CELLS)
def test_a_ticket_is_trained_as_the_reference(module: str, loop: str) -> None:
    check_cell(MODULES[module], LOOPS[loop])


@pytest.mark.parametrize(("module", "loop"), MORE)
def test_a_ticket_is_trained_as_the_reference_in_unusual_loops(module: str, loop: str) -> None:
    check_cell(MODULES[module], EXTRA[loop])
