"""`tombola motif ticket`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from tombola.commands.arguments import STORE, JsonFile, StorePath, check_targets, flag, open_store, parse, write_out
from tombola.commands.motif_progress import progress
from tombola.commands.ticket_inspect import columns

__all__ = ["Ticket", "main"]

_ENOUGH = 40
"""Starts in each arm that an experiment needs to say something."""


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """Do the edges that survive pruning need their first weights? Random networks, pruned in one shot, climb again."""

    starts: Annotated[int, flag("random networks; of about one in five the dense climb succeeds.", metavar="INT")] = 210
    genes: Annotated[int, flag("of each.", metavar="INT")] = 7
    keep: Annotated[int, flag("edges that are kept.", metavar="INT")] = 24
    rounds: Annotated[int, flag("of a climb.", metavar="INT")] = 50
    late: Annotated[int, flag("round that the late rewind goes back to.", metavar="INT")] = 2
    success: Annotated[float, flag("a reward of at least this.", metavar="FLOAT")] = 20.0
    reward: Annotated[Literal["plain", "strict"], flag("which reward.")] = "plain"
    seed: Annotated[int, flag("of everything.", metavar="INT")] = 0
    store: StorePath = STORE
    json: JsonFile = ""
    quiet: Annotated[bool, flag("print no progress.", default="")] = False


def main(arguments: Sequence[str]) -> int:
    """Play what is not in the store, print the tables."""
    asked = parse(Ticket, arguments, command="motif ticket")
    check_targets(asked.json)
    from tombola.motifs.task import GeneTask, Rewarded
    from tombola.motifs.tickets import ARMS, Counted, Terms, played, told

    terms = Terms(starts=asked.starts, keep=asked.keep, late=asked.late, success=asked.success, seed=asked.seed)
    task = GeneTask(steps=asked.rounds, genes=asked.genes, rewarded=Rewarded(asked.reward))
    store = open_store(asked.store, create=True)
    try:
        with progress(asked.quiet, "climbs") as watch:
            total = terms.starts * (1 + len(ARMS))
            watcher = Counted(lambda done: watch(done, total) if watch else None)
            found = told(played(task, terms, store, watcher=watcher), terms)
    except KeyboardInterrupt:
        again = shlex.join(["tombola", "motif", "ticket", *arguments])
        print(f"tombola: interrupted; what is finished is kept. Go on with: {again}", file=sys.stderr)
        return 130
    if asked.json != "-":
        _say(found, asked)
    write_out(asked.json, {**found, "genes": asked.genes, "rounds": asked.rounds, "reward": asked.reward})
    return 0


def _say(found: Mapping[str, Any], asked: Ticket) -> None:
    print(
        f"{found['starts']} random networks of {asked.genes} genes, {asked.keep} of {asked.genes**2} edges kept; the "
        f"{len(found['among'])} whose dense climb reaches {asked.success:g}:\n"
    )
    rows = [
        (
            arm["arm"],
            f"{arm['successes']} of {arm['n']}",
            _range(arm["share"], arm["share_low"], arm["share_high"], 2),
            _range(arm["mean"], arm["low"], arm["high"], 1),
        )
        for arm in found["arms"]
    ]
    print(columns([("arm", "succeed", "share", "mean reward"), *rows], left=1))
    rows = [
        (
            f"{one['one']} - {one['other']}",
            _range(one["difference"], one["low"], one["high"], 1),
            _p(one["p"]),
            _p(one["success_p"]),
        )
        for one in found["comparisons"]
    ]
    print("\n" + columns([("reward, paired", "difference", "p", "p of successes"), *rows], left=1))
    print(
        "\n95 % intervals: Wilson's of shares, Student's of means. p: one-sided paired t, Holm over the lines; of\n"
        "successes: McNemar's exact, two-sided, not adjusted.\n\n" + found["sentence"]
    )
    if len(found["among"]) < _ENOUGH:
        print(f"Fewer than {_ENOUGH} starts in each arm: too few for a firm claim; take more --starts.")


def _range(value: float | None, low: float | None, high: float | None, digits: int) -> str:
    if value is None:
        return "-"
    ends = "" if low is None or high is None else f" ({low:.{digits}f} to {high:.{digits}f})"
    return f"{value:.{digits}f}{ends}"


def _p(p: float | None) -> str:
    return "-" if p is None else "< 0.0001" if p < 1e-4 else f"{p:.2g}"
