"""The page that lists every name is that of the registries."""

from __future__ import annotations

import runpy
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"


def test_the_page_is_current() -> None:
    made = runpy.run_path(str(DOCS / "vocabulary.py"))["page"]()
    assert (DOCS / "vocabulary.md").read_text(encoding="utf-8") == made, "run python docs/vocabulary.py"
