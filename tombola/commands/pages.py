"""The HTML page of an experiment, as every command writes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tombola.analysis.engines import described, engines_of
from tombola.analysis.relative import judged_by
from tombola.analysis.source import Source
from tombola.analysis.verdict import experiment_verdict
from tombola.commands.arguments import write_whole
from tombola.errors import UsageError
from tombola.report.page import page
from tombola.store import Store

__all__ = ["experiment_page"]


def experiment_page(
    digest: str,
    content: Mapping[str, Any],
    document: Mapping[str, Any],
    store: Store,
    target: Path | None,
    *,
    verdict: Mapping[str, Any] | None = None,
) -> Path:
    """Write the page, the verdict first; without a target into the store's `reports/`. Returns its path.

    `verdict` is that of `analysis.verdict`; without it, it is made with the margin and endpoint of the recipe.

    Raises:
        StoreError: it cannot be written.
    """
    path = target or store.root / "reports" / f"{content['recipe']}-{digest[:12]}.html"
    source = Source(document=document, digest=digest, content=content, store=store)
    engines = described(engines_of(answer for _, answer in source.trained()))
    details: dict[str, object] = {
        "Run again": content["command"] or "tombola.run(...) from Python",
        "Seeds": _seeds(source),
        "Made with": {"engine": engines, **{str(k): str(v) for k, v in content["provenance"].items() if k != "engine"}},
        "Recipe": content["settings"],
    }
    ended = [f"replicate {e['replicate']}, level {e['level']}: {e['cause']}" for e in content["ended"]]
    if ended:
        details["Ended early"] = "\n".join(ended)
    write_whole(path, page(source, details=details, verdict=verdict or _verdict(source)))
    return path


def _verdict(source: Source) -> dict[str, Any] | None:
    """The verdict by the recipe's own margin and endpoint; None where less is better, or nothing was gained at all."""
    if judged_by(source.known) is None or not source.document["arms"]:
        return None
    try:
        return experiment_verdict(source.known, source.document)
    except UsageError:
        if source.known["metric"] == "accuracy":
            raise
        return None


def _seeds(source: Source) -> str:
    settings = source.settings
    count = settings.get("replicates", 1)
    return (
        f"seed {settings.get('seed', 0)} of everything: initial weights, data order, noise and controls of the {count} "
        f"replicate{'s' * (count > 1)} are drawn from it by name; split seed {settings.get('split_seed', 0)}"
    )
