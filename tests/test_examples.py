"""What the README and the examples show works as it stands there."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example_runs_and_prints_accuracies(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(path), run_name="__main__")
    assert "test accuracy" in capsys.readouterr().out


def test_readme_example_runs_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        assert len([line for line in block.splitlines() if line.strip()]) <= 15
        script = tmp_path / "readme.py"
        script.write_text(block)
        runpy.run_path(str(script), run_name="__main__")
    assert "%" in capsys.readouterr().out


def test_readme_names_only_commands_that_exist() -> None:
    from tombola.cli import COMMANDS

    named = set(re.findall(r"^tombola ([\w-]+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert named and named <= set(COMMANDS)
