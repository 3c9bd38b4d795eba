"""The HTML page of an experiment, as every command writes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tombola.commands.arguments import write_whole
from tombola.report.page import page
from tombola.store import Store

__all__ = ["experiment_page"]


def experiment_page(
    digest: str, content: Mapping[str, Any], document: Mapping[str, Any], store: Store, target: Path | None
) -> Path:
    """Write the page; without a target into the store's `reports/`. Returns its path.

    Raises:
        StoreError: it cannot be written.
    """
    path = target or store.root / "reports" / f"{content['recipe']}-{digest[:12]}.html"
    details = {
        "Recipe": content["settings"],
        "Run again": content["command"] or "tombola.run(...) from Python",
        "Made with": {str(k): str(v) for k, v in content["provenance"].items()},
        "Experiment": digest,
    }
    ended = [f"replicate {e['replicate']}, level {e['level']}: {e['cause']}" for e in content["ended"]]
    if ended:
        details["Ended early"] = "\n".join(ended)
    write_whole(path, page(document, details=details))
    return path
