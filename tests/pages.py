"""The code blocks of the documentation, to be run as they stand there."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import torch

__all__ = ["ROOT", "blocks", "run_page"]

ROOT = Path(__file__).parent.parent
_BLOCK = re.compile(r"(?:<!-- needs: (\w+) -->\n)?```python\n(.*?)```", re.DOTALL)


def blocks(page: str) -> list[tuple[str, str]]:
    """(need, code) of every Python block: `<!-- needs: NEED -->` stands above what not everyone can run."""
    return [(need or "", code) for need, code in _BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))]


def run_page(page: str, folder: Path, *needs: str, first: int | None = None) -> dict[str, Any]:
    """Run the blocks of a page as one script in `folder`, with those that need one of `needs`; returns its names.

    `first`: of the blocks that need nothing only so many, where the others stand on no more than these.
    """
    found = blocks(page)
    plain = [place for place, (need, _) in enumerate(found) if not need][:first]
    chosen = [code for place, (need, code) in enumerate(found) if place in plain or need in needs]
    script = folder / f"{Path(page).stem.replace('-', '_')}.py"
    script.write_text("\n\n".join(chosen), encoding="utf-8")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small networks wait for each other's threads on a busy machine
    try:
        return runpy.run_path(str(script), run_name="__main__")
    finally:
        torch.set_num_threads(threads)
