"""`tombola motif prune`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated

import tyro

from tombola.commands.arguments import JsonFile, check_targets, counted, flag, parse, write_out
from tombola.commands.motif_networks import Intervals, MotifName, Named, Offset, Substeps, beware, named
from tombola.commands.motif_progress import progress
from tombola.commands.ticket_inspect import columns
from tombola.errors import UsageError
from tombola.motifs.network import silence

if TYPE_CHECKING:
    from tombola.motifs.pruned import Step
    from tombola.motifs.reward import Reward

__all__ = ["Prune", "main"]

_EXHAUSTIVE = "exhaustive"  # the method that is no criterion
_TUNED = ("greedy", "magnitude")


@dataclass(frozen=True, kw_only=True)
class Prune:
    """Take edges away, with or without tuning what is left, and say how few still make the pattern."""

    motif: tyro.conf.Positional[MotifName]
    method: Annotated[
        str,
        flag(
            "how edges are chosen: exhaustive (all sub-networks, up to 16 edges), or a criterion that needs no "
            "examples (greedy, leave_one_out, magnitude, random, ...).",
            metavar="NAME",
        ),
    ] = "greedy"
    tune: Annotated[
        bool, flag("let what is left climb back after each cut (greedy and magnitude alone).", default="")
    ] = False
    seed: Annotated[int, flag("of the moves of --tune, and of what a criterion draws.", metavar="INT")] = 0
    strict: Annotated[bool, flag("go by the strict reward, not by the plain one.", default="")] = False
    share: Annotated[
        float | None,
        flag("of the reward that must be kept.", metavar="FLOAT", default="(default: 0.868, the source's)"),
    ] = None
    offset: Offset = None
    intervals: Intervals = 199
    substeps: Substeps = 2
    save: Annotated[str, flag("write the smallest network there, as a MOTIF file.", metavar="FILE", default="")] = ""
    json: JsonFile = ""
    quiet: Annotated[bool, flag("print no progress.", default="")] = False

    def __post_init__(self) -> None:
        if self.share is not None and not 0 < self.share <= 1:
            raise UsageError(f"share is {self.share}; expected a fraction above 0 and at most 1, such as 0.868.")
        if self.tune and self.method not in _TUNED:
            raise UsageError(f"--tune goes with {' and '.join(_TUNED)}, not with {self.method}; leave one of them out.")


def main(arguments: Sequence[str]) -> int:
    """Prune, print the way down, write the smallest network."""
    asked = parse(Prune, arguments, command="motif prune")
    check_targets(asked.json, asked.save)
    one = named(asked.motif, offset=asked.offset, intervals=asked.intervals, substeps=asked.substeps)
    why = silence(one.network, one.dynamics.output)
    if why:
        raise UsageError(f"{one.title} has reward 0, so there is nothing to keep: {why}.")
    from tombola.motifs import pruned
    from tombola.motifs.pruned import SHARE
    from tombola.motifs.reward import plain, strict
    from tombola.motifs.score import scored

    share = SHARE if asked.share is None else asked.share
    method = _method(asked, share)
    score = scored(one.network, one.dynamics)
    reward: Reward = strict if asked.strict else plain
    kind = "strict" if asked.strict else "plain"
    begun = time.perf_counter()
    with progress(asked.quiet, "edges gone" if asked.tune else "networks") as watch:
        steps = method(one.network, dynamics=one.dynamics, reward=reward, watch=watch)
    seconds = time.perf_counter() - begun
    least = pruned.smallest(steps, share)
    if least is None:
        raise UsageError(
            f"{one.title} has {kind} reward 0, so there is nothing to keep; see tombola motif score {one.name}."
        )
    if asked.json != "-":
        _say(one, asked, steps, least, share, seconds)
        beware(one, score)
        small = replace(one, title=f"{one.title}, {counted(least.edges, 'edge')}", network=least.network)
        if least.network != one.network:
            beware(small, scored(small.network, small.dynamics))
    if asked.save:
        write_out(asked.save, json.dumps(least.network.document()) + "\n")
    write_out(
        asked.json,
        {
            "schema": 1,
            "name": one.name,
            "title": one.title,
            "dynamics": asdict(one.dynamics),
            "method": asked.method,
            "tuned": asked.tune,
            "seed": asked.seed,
            "reward": kind,
            "share": share,
            "seconds": seconds,
            "coarse": score.coarse,
            "smallest": least.edges,
            "steps": [_plain(step) for step in steps],
        },
    )
    return 0


def _method(asked: Prune, share: float) -> Callable[..., list[Step]]:
    from tombola.motifs import descent as descents
    from tombola.motifs import pruned

    if asked.tune:
        descent = descents.Descent(share=share, seed=asked.seed)
        tuned = {"greedy": descents.tuned_greedy, "magnitude": descents.tuned_magnitude}
        return partial(tuned[asked.method], descent=descent)
    if asked.method == _EXHAUSTIVE:
        return pruned.exhaustive
    return partial(pruned.by_criterion, criterion=asked.method, seed=asked.seed)


def _plain(step: Step) -> dict[str, object]:
    return {
        "edges": step.edges,
        "reward": step.reward,
        "simulations": step.simulations,
        **step.network.document(),
    }


def _say(one: Named, asked: Prune, steps: Sequence[Step], least: Step, share: float, seconds: float) -> None:
    whole = steps[0].reward
    rows = [(str(step.edges), f"{step.reward:.3f}", f"{100 * step.reward / whole:.1f} %") for step in steps]
    print(columns([("edges", "reward", "of the whole"), *rows], left=0))
    how = f"{asked.method}, tuned" if asked.tune else asked.method
    print(
        f"{one.title}, {how}, {'strict' if asked.strict else 'plain'} reward: {least.edges} of {steps[0].edges} edges "
        f"keep {100 * least.reward / whole:.1f} % (asked: {100 * share:.1f} %); "
        f"{counted(steps[-1].simulations, 'network')} in {seconds:.1f} s."
    )
    if asked.save:
        print(f"Network: {asked.save}")
