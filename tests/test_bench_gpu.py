"""The GPU benchmark: it runs small on a CPU, and says so where there is no GPU."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # where `benchmarks` is

from benchmarks.gpu import main


def test_without_a_gpu_it_says_so_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--device", "cuda:99"]) == 0
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith("no measurement on cuda:99: The device 'cuda:99' cannot be used")


def test_the_same_paths_run_small_on_a_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    before = torch.get_num_threads()
    assert main(["--device", "cpu", "--recipes", "digits-lenet", "digits-conv2"]) == 0
    torch.set_num_threads(before)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert sum("steps/s" in line for line in lines) == 8 and not any(line.startswith("not ") for line in lines)
    assert lines.count("recorded: equal places of the mask (%) 100.000") == 2
    assert lines.count("recorded: largest difference of a loss (1e-6) 0.000") == 2
