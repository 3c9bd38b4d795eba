"""Write the tables of docs/reproductions/conv.md from stored experiments: python docs/convolutional.py --store DIR.

Every finished experiment of the store on a convolutional network is a row of its own; what differs between those of one
recipe is named. Text outside the marks of the page stays as it is.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from reproduce import portable

from tombola.analysis.document import results_document
from tombola.analysis.verdict import experiment_verdict
from tombola.recipes import RECIPES, Recipe
from tombola.recipes.toml import parse_toml
from tombola.statistics import interval, t_interval
from tombola.store import Store

PAGE = Path(__file__).parent / "reproductions" / "conv.md"
BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"
CONTROLS = ("reinit", "reinit-rewound", "shuffled")


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A finished experiment."""

    digest: str
    content: dict[str, Any]
    document: dict[str, Any]

    @cached_property
    def recipe(self) -> Recipe:
        """What was run."""
        return parse_toml(self.content["settings"], "the stored recipe")

    @property
    def restart(self) -> str:
        """What its survivors restart from."""
        step, reset = self.recipe.rewind_to, self.recipe.reset
        if reset == "rewind":
            return f"weights of step {step}" if step else "first weights"
        return f"{reset} to step {step}" if step else reset

    def accuracies(self, arm: str, level: int) -> dict[int, float]:
        """Replicate -> test accuracy where the recipe judges it, in per cent; draws are averaged."""
        key = "test_accuracy" if self.recipe.endpoint == "end" else "test_accuracy_at_early_stop"
        found: dict[int, list[float]] = {}
        for row in self.document["arms"].get(arm, []):
            if row["level"] == level and row[key] is not None:
                found.setdefault(row["replicate"], []).append(100 * row[key])
        return {replicate: sum(values) / len(values) for replicate, values in found.items()}

    def density(self, level: int) -> float:
        """Of the ticket, in per cent."""
        return next(100 * row["density"] for row in self.document["arms"]["ticket"] if row["level"] == level)


def stored(store: Store) -> Iterator[Stored]:
    """The finished experiments whose recipe is one of those that come with Tombola."""
    for digest, content in store.experiments():
        if content["state"] == "finished" and content["recipe"] in RECIPES:
            yield Stored(digest=digest, content=content, document=results_document(digest, content, store))


def mean(values: dict[int, float]) -> str:
    """Mean and half the width of its 95 % interval."""
    if not values:
        return "-"
    found = interval(list(values.values()))
    half = "" if found.high is None else f" ± {found.high - found.mean:.2f}"
    return f"{found.mean:.2f}{half}"


def difference(a: dict[int, float], b: dict[int, float]) -> str:
    """Mean paired difference with its 95 % interval."""
    pairs = [a[replicate] - b[replicate] for replicate in a.keys() & b.keys()]
    low, high = t_interval(pairs)
    if low is None or high is None:
        return "-"
    return f"{sum(pairs) / len(pairs):+.2f} ({low:+.2f} to {high:+.2f})"


def levels_table(one: Stored) -> list[str]:
    """Ticket and controls, level by level."""
    arms = ["ticket", *(arm for arm in CONTROLS if arm in one.document["arms"])]
    lines = [f"| weights | {' | '.join(arms)} | ticket - dense | ticket - reinit |", "|---" * (len(arms) + 3) + "|"]
    dense = one.accuracies("ticket", 0)
    lines.append(f"| 100 % | {mean(dense)} (dense) |{' |' * (len(arms) + 1)}")
    for level in range(1, one.recipe.levels + 1):
        ticket = one.accuracies("ticket", level)
        cells = [mean(one.accuracies(arm, level)) for arm in arms]
        against = [difference(ticket, dense), difference(ticket, one.accuracies("reinit", level))]
        lines.append(f"| {one.density(level):.1f} % | {' | '.join([*cells, *against])} |")
    return lines


def rewinding_table(several: list[Stored]) -> list[str]:
    """Tickets of one recipe by what they restart from, each beside those from the first weights."""
    base, *others = several
    titles = [base.restart, *(f"{one.restart} | minus {base.restart}" for one in others)]
    lines = [f"| weights | {' | '.join(titles)} |", "|---" * (2 * len(others) + 2) + "|"]
    for level in range(1, base.recipe.levels + 1):
        first = base.accuracies("ticket", level)
        cells = [mean(first)]
        for one in others:
            ticket = one.accuracies("ticket", level)
            cells += [mean(ticket), difference(ticket, first)]
        lines.append(f"| {base.density(level):.1f} % | {' | '.join(cells)} |")
    return lines


def separable_table(whole: Stored, separable: Stored) -> list[str]:
    """What tickets of both twins lose against their own dense network, by relative density."""
    counts = [f"{one.document['arms']['ticket'][0]['prunable']:,}" for one in (whole, separable)]
    lines = [
        "",
        "### Sparse by hand and sparse by pruning",
        "",
        f"Tickets of `digits-resnet` ({counts[0]} prunable weights) and of its depthwise-separable twin ({counts[1]}),",
        "each minus its own dense network, by relative density (points of test accuracy, 95 % interval):",
        "",
        "| weights kept | whole convolutions | separable convolutions |",
        "|---|---|---|",
    ]
    for level in range(1, whole.recipe.levels + 1):
        cells = [difference(one.accuracies("ticket", level), one.accuracies("ticket", 0)) for one in (whole, separable)]
        lines.append(f"| {whole.density(level):.1f} % | {' | '.join(cells)} |")
    return lines


def tables(store: Store) -> str:
    """All tables."""
    by_recipe: dict[str, list[Stored]] = {}
    for one in stored(store):
        by_recipe.setdefault(one.recipe.name, []).append(one)
    lines: list[str] = []
    for name, several in sorted(by_recipe.items()):
        several.sort(key=lambda one: (one.recipe.reset != "rewind", one.recipe.reset, one.recipe.rewind_to))
        recipe = several[0].recipe
        lines += ["", f"### {name}", ""]
        where = "at the end" if recipe.endpoint == "end" else "at the early stop"
        length = f"{recipe.steps:,} steps, batch {recipe.batch_size}, {recipe.levels} levels, rate {recipe.rate}"
        lines += [f"{recipe.replicates} replicates; {length}; test accuracy {where} (%), mean and 95 % interval.", ""]
        lines += [*levels_table(several[0]), ""]
        for one in several:
            sentence = experiment_verdict(one.content, one.document)["overall"]["sentence"]
            lines.append(
                f"* From the {one.restart}: {sentence}"
                if one.recipe.reset == "rewind"
                else f"* {one.restart}: {sentence}"
            )
        if len(several) > 1:
            lines += ["", "Tickets by what their survivors restart from, and paired differences:", ""]
            lines += rewinding_table(several)
        lines += ["", *(f"    {portable(one.content['command'] or 'tombola.run(...)')}" for one in several)]
    if {"digits-resnet", "digits-separable"} <= by_recipe.keys():
        lines += separable_table(by_recipe["digits-resnet"][0], by_recipe["digits-separable"][0])
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", default="tombola-store")
    asked = parser.parse_args()
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n{tables(Store(asked.store, create=False))}\n{END}{after}", encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
