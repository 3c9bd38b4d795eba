"""The page about own loops, with the trainers of other libraries, as it stands there."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import pytest
import torch
from pages import run_page


def test_own_loop_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.getLogger("lightning.pytorch")
    before = logger.level
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # theirs
            found = run_page("docs/own-loop.md", tmp_path, "with_integrations", first=2)
    finally:
        logger.setLevel(before)
    assert [row.level for row in found["ticket"].history] == [0, 1]
