"""`tombola ls`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from tombola.commands.arguments import STORE, JsonFile, StorePath, check_targets, counted, open_store, parse, write_out

__all__ = ["Ls", "main"]


@dataclass(frozen=True, kw_only=True)
class Ls:
    """List the experiments in a store, oldest first."""

    store: StorePath = STORE
    json: JsonFile = ""


def main(arguments: Sequence[str]) -> int:
    """Print one line for each experiment."""
    asked = parse(Ls, arguments, command="ls")
    check_targets(asked.json)
    rows = []
    for digest, content in open_store(asked.store).experiments():
        fits = [row for row in content["rows"] if row["arm"] != "cut"]
        rows.append(
            {
                "experiment": digest,
                "recipe": content["recipe"],
                "state": content["state"],
                "levels": max((row["level"] for row in fits), default=0),
                "replicates": len({row["replicate"] for row in fits}),
                "fits": len(fits),
                "begun": content["begun"],
            }
        )
    if asked.json != "-":
        for row in rows:
            begun = time.strftime("%Y-%m-%d %H:%M", time.localtime(row["begun"]))
            shape = (
                f"levels 0-{row['levels']}, {counted(row['replicates'], 'replicate')}, {counted(row['fits'], 'fit')}"
            )
            print(f"{row['experiment'][:12]}  {row['recipe']:<16}  {row['state']:<8}  {begun}  {shape}")
        if not rows:
            print(f"The store {asked.store} has no experiment yet; begin with: tombola run digits-lenet")
    write_out(asked.json, {"schema": 1, "experiments": rows})
    return 0
