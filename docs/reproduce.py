"""Write docs/reproductions/lenet.md from a stored experiment: python docs/reproduce.py EXPERIMENT [--store DIR].

`--page NAME` writes docs/reproductions/NAME.md instead.
"""

from __future__ import annotations

import argparse
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

from tombola.analysis.claims import judge_claims
from tombola.analysis.document import results_document
from tombola.analysis.engines import described, engines_of
from tombola.answers import Trained
from tombola.recipes.toml import parse_toml
from tombola.store import Store

PAGE = """# LeNet-300-100 on MNIST: the paper's claims, judged

Frankle and Carbin (2019, arXiv 1803.03635), section 2, figures 3 and 4, beside what this repository measures. Each
claim is tested by one-sided paired t tests at 5 % over replicates: *held* or *not held* where a test says so, else
*inconclusive*. Differences are means with their 95 % interval; steps are those of the early stop (smallest validation
loss).

Experiment `{digest}`: {replicates}, levels 0 to {levels}, {steps:,} steps a training (the paper: 50,000),
batch {batch}, margin {margin:.1f} points. {note}

| claim | paper | here | verdict |
|---|---|---|---|
{rows}

{summary}

Made by:

    {command}
    python docs/reproduce.py {short}{option}

with {made}.
"""


PLACES = ("--store", "--json", "--page", "--data-dir")
"""Options of `tombola run` that say where things are on one machine, and nothing about the numbers."""


def portable(command: str) -> str:
    """The command without what is only true of the machine it ran on."""
    kept, words = [], iter(shlex.split(command))
    for word in words:
        if word in PLACES:
            next(words, None)
        elif word != "--quiet" and not word.startswith(tuple(f"{place}=" for place in PLACES)):
            kept.append(word)
    return shlex.join(kept)


def page(digest: str, content: dict[str, Any], store: Store, name: str = "lenet") -> str:
    """The page as Markdown."""
    recipe = parse_toml(content["settings"], "the stored recipe")
    judged = judge_claims(results_document(digest, content, store), margin=recipe.margin)
    answers = [store.get(row["request"]) for row in content["rows"]]
    engines = described(engines_of(answer for answer in answers if isinstance(answer, Trained)))
    made = {**content["provenance"], "engine": engines}
    counts = Counter(row.verdict for row in judged)
    notes = ["Shorter trainings than the paper's: early-stop steps are cut off sooner."] * (recipe.steps < 50_000)
    notes += ["So few replicates cannot judge: the differences are those of these draws."] * (recipe.replicates < 3)
    return PAGE.format(
        digest=digest[:12],
        short=digest[:12],
        option="" if name == "lenet" else f" --page {name}",
        replicates=f"{recipe.replicates} replicate{'s' * (recipe.replicates != 1)}",
        levels=recipe.levels,
        steps=recipe.steps,
        batch=recipe.batch_size,
        margin=100 * recipe.margin,
        note=" ".join(notes),
        rows="\n".join(f"| {row.claim} | {row.paper} | {row.ours} | **{row.verdict}** |" for row in judged),
        summary=f"In all: {', '.join(f'{count} {word}' for word, count in counts.items())}.",
        command=portable(content["command"] or "") or "tombola.run(...)",
        made=", ".join(f"{name} {value}" for name, value in made.items()),
    )


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment")
    parser.add_argument("--store", default="tombola-store")
    parser.add_argument("--page", default="lenet", help="name of the page in docs/reproductions")
    asked = parser.parse_args()
    store = Store(asked.store, create=False)
    digest, content = store.experiment(asked.experiment)
    target = Path(__file__).parent / "reproductions" / f"{asked.page}.md"
    target.write_text(page(digest, content, store, asked.page), encoding="utf-8")
    print(target)


if __name__ == "__main__":
    main()
