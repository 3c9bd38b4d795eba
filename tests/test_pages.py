"""What the pages in docs/ show works as it stands there."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest
import torch
from pages import ROOT, blocks, run_page

PAGES = [str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").rglob("*.md"))]
NEEDS = {"", "with_integrations", "with_export", "torchrun"}
"""Each is provided by a test: the groups run what is marked with their name."""


@pytest.mark.parametrize("page", [page for page in PAGES if any(not need for need, _ in blocks(page))])
def test_page_runs_as_printed(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    run_page(page, tmp_path)


@pytest.mark.parametrize("page", PAGES)
def test_blocks_are_short_and_their_needs_known(page: str) -> None:
    for need, code in blocks(page):
        assert need in NEEDS
        assert len([line for line in code.splitlines() if line.strip()]) <= 15, code


def test_page_runs_in_a_process_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As under `torchrun` with one process; `test_find_ddp.py` has two."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    place = {"RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for name, value in place.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.chdir(tmp_path)
    assert run_page("docs/own-loop.md", tmp_path, "torchrun", first=2)["ticket"].history[-1].level == 2


@pytest.mark.parametrize("page", ["README.md", "examples/README.md", *PAGES])
def test_pages_name_only_commands_and_files_that_exist(page: str) -> None:
    from tombola.cli import COMMANDS

    text = (ROOT / page).read_text(encoding="utf-8")
    assert set(re.findall(r"^tombola ([\w-]+)", text, re.MULTILINE)) <= set(COMMANDS)
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (ROOT / page).parent.joinpath(link).exists(), link


def test_the_command_page_lists_every_command() -> None:
    from tombola.cli import COMMANDS

    text = (ROOT / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^tombola ([\w-]+)", text, re.MULTILINE)) == set(COMMANDS)
