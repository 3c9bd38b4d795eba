"""`tombola motif diverse`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tombola.commands.arguments import JsonFile, check_targets, counted, flag, parse, write_out
from tombola.commands.motif_progress import progress
from tombola.commands.ticket_inspect import columns
from tombola.errors import UsageError
from tombola.motifs.dynamics import Dynamics

if TYPE_CHECKING:
    from tombola.motifs.judge import Judge
    from tombola.motifs.population import Budget, Found, Watch

__all__ = ["Diverse", "main"]

Method = Literal["elites", "novelty", "flow"]

_EVALUATIONS = {"elites": 60_000, "novelty": 20_000, "flow": 192_000}
_GENES = {"elites": 7, "novelty": 7, "flow": 2}
_DRAWN = 1000  # networks that a learnt flow is asked for


@dataclass(frozen=True, kw_only=True)
class Diverse:
    """Search for many different networks that make stripes, say how many there are, and show the least alike."""

    method: Annotated[
        Method,
        flag("MAP-Elites (edges x boundaries), novelty search, or a GFlowNet on a grid of weights."),
    ] = "elites"
    genes: Annotated[int | None, flag("of each network.", metavar="INT", default="(default: 7; 2 for flow)")] = None
    levels: Annotated[int, flag("that a number can have, evenly from -100 to 100; for flow alone.", metavar="INT")] = 5
    evaluations: Annotated[
        int | None,
        flag("networks to look at.", metavar="INT", default="(default: 60000; novelty 20000; flow 192000)"),
    ] = None
    seconds: Annotated[
        float | None,
        flag("stop by then, at the price of another result on another machine.", metavar="FLOAT", default=""),
    ] = None
    seed: Annotated[int, flag("of every draw.", metavar="INT")] = 0
    strict: Annotated[bool, flag("go by the strict reward, not by the plain one.", default="")] = False
    at_least: Annotated[float, flag("reward of the networks that are counted and shown.", metavar="FLOAT")] = 20.0
    most: Annotated[int, flag("networks on the page.", metavar="INT")] = 24
    out: Annotated[str, flag("write the page there.", metavar="FILE.html", default="")] = ""
    json: JsonFile = ""
    quiet: Annotated[bool, flag("print no progress.", default="")] = False

    def __post_init__(self) -> None:
        if self.most < 1:
            raise UsageError(f"most is {self.most}; expected a whole number, 1 or more.")
        if not 0 < self.at_least < float("inf"):
            raise UsageError(f"at-least is {self.at_least}; expected a reward above 0.")


def main(arguments: Sequence[str]) -> int:
    """Search, print the table, write the page."""
    asked = parse(Diverse, arguments, command="motif diverse")
    check_targets(asked.out, asked.json)
    from tombola.motifs.gallery import page, unlike
    from tombola.motifs.judge import Judge
    from tombola.motifs.population import Budget, confirmed, topologies
    from tombola.motifs.reward import plain, strict

    judge = Judge(dynamics=Dynamics(), reward=strict if asked.strict else plain)
    budget = Budget(
        evaluations=_EVALUATIONS[asked.method] if asked.evaluations is None else asked.evaluations,
        seconds=asked.seconds,
    )
    begun = time.perf_counter()
    with progress(asked.quiet, "networks") as watch:
        searched, facts = _search(asked, judge, budget, watch)
        found = confirmed(searched, judge)
    facts["unconfirmed"] = sum(one.reward >= asked.at_least for one in searched) - sum(
        one.reward >= asked.at_least for one in found
    )
    seconds = time.perf_counter() - begun
    good = [one for one in found if one.reward >= asked.at_least]
    kind = "strict" if asked.strict else "plain"
    headline = (
        f"{counted(len(good), 'network')} with a {kind} reward of {asked.at_least:g} or more, "
        f"{counted(topologies(good), 'sign topology').replace('topologys', 'topologies')}"
    )
    if asked.json != "-":
        _say(found, facts, asked.at_least)
        print(f"{headline}, in {seconds:.1f} s.")
        if facts["capped"]:
            print("The clock ended the search; another machine gets another result.")
    if asked.out:
        shown = unlike(good, asked.most)
        words = f"{headline}; here are the {len(shown)} that are least alike." if shown else f"{headline}."
        write_out(asked.out, page(shown, judge.dynamics, title="Gene networks that make stripes", headline=words))
        if asked.json != "-":
            print(f"Page: {asked.out}")
    document = {
        "schema": 1,
        "method": asked.method,
        "seed": asked.seed,
        "reward": kind,
        "dynamics": asdict(judge.dynamics),
        "at_least": asked.at_least,
        "seconds": seconds,
        **facts,
        "found": len(found),
        "good": len(good),
        "topologies": topologies(good),
        "networks": [
            {"edges": one.edges, "boundaries": one.boundaries, "reward": one.reward, **one.network.document()}
            for one in good
        ],
    }
    write_out(asked.json, document)
    return 0


def _search(
    asked: Diverse, judge: Judge, budget: Budget, watch: Watch | None
) -> tuple[Sequence[Found], dict[str, Any]]:
    """What is found, and numbers about the search."""
    from tombola.motifs.elites import map_elites
    from tombola.motifs.novelty import novelty_search

    genes = _GENES[asked.method] if asked.genes is None else asked.genes
    if asked.method == "flow":
        return _flow(asked, judge, budget, genes, watch)
    if asked.method == "novelty":
        novel = novelty_search(judge, budget=budget, seed=asked.seed, genes=genes, watch=watch)
        numbers = {"evaluations": novel.evaluations, "capped": novel.capped, "apart": novel.apart}
        return novel.archive, {"genes": genes, **numbers}
    elites = map_elites(judge, budget=budget, seed=asked.seed, genes=genes, watch=watch)
    return elites.cells, {"genes": genes, "evaluations": elites.evaluations, "capped": elites.capped}


def _flow(
    asked: Diverse, judge: Judge, budget: Budget, genes: int, watch: Watch | None
) -> tuple[Sequence[Found], dict[str, Any]]:
    from tombola.motifs.flow import gflownet, total_variation
    from tombola.motifs.levels import ENUMERABLE, Levels, enumerated
    from tombola.motifs.network import GeneNetwork
    from tombola.motifs.population import Found

    grid = Levels(genes=genes, levels=asked.levels)
    judge = replace(judge, checked=True)
    learnt = gflownet(grid, grid.worth(judge), budget=budget, seed=asked.seed, watch=watch)
    facts: dict[str, Any] = {
        "genes": genes,
        "levels": grid.levels,
        "evaluations": learnt.evaluations,
        "capped": learnt.capped,
        "simulated": len(learnt.seen),
        "log_total": learnt.log_total,
        "loss": learnt.loss,
    }
    drawn = judge(*grid.networks(learnt.draw(_DRAWN, asked.seed)))
    facts["drawn_at_least"] = (drawn.reward >= asked.at_least).double().mean().item()
    if grid.count <= ENUMERABLE:
        every = enumerated(grid, grid.worth(judge))
        facts["total_variation"] = total_variation(learnt, every)
        facts["true_log_total"] = ((every + learnt.floor) ** learnt.beta).sum().log().item()
        facts["true_at_least"] = int((every >= asked.at_least).sum())
    weights, morphogen = grid.networks(learnt.seen[learnt.rewards >= asked.at_least])
    if not len(weights):
        return (), facts
    again = judge(weights, morphogen)
    found = [
        Found(network=GeneNetwork(weights=one, morphogen=inputs), reward=reward, boundaries=boundaries)
        for one, inputs, reward, boundaries in zip(
            weights.tolist(), morphogen.tolist(), again.reward.tolist(), again.boundaries.tolist(), strict=True
        )
    ]
    return found, facts


_WORDS = {
    "evaluations": "networks looked at",
    "simulated": "different ones among them",
    "apart": "least distance of two profiles in the archive",
    "loss": "loss at the end",
    "log_total": "log of the sum of (reward + 0.1)^2, learnt",
    "true_log_total": "the same, exact",
    "total_variation": "total variation to the exact law",
    "drawn_at_least": f"share of {_DRAWN:,} draws with the reward asked for",
    "true_at_least": "networks with the reward asked for that there are",
    "unconfirmed": "kept by float32 alone: stripes of rounding, less than the reward asked for in float64",
}


def _say(found: Sequence[Found], facts: dict[str, Any], at_least: float) -> None:
    good = [one for one in found if one.reward >= at_least]
    rows = [
        (words, f"{facts[name]:.3f}" if isinstance(facts[name], float) else f"{facts[name]:,}")
        for name, words in _WORDS.items()
        if name in facts
    ]
    rows.append(("networks kept", f"{len(found):,}"))
    rows.append((f"of them with a reward of {at_least:g} or more", f"{len(good):,}"))
    if good:
        edges, boundaries = [one.edges for one in good], [one.boundaries for one in good]
        rows.append(("their edges", f"{min(edges)} to {max(edges)}"))
        rows.append(("their boundaries", f"{min(boundaries)} to {max(boundaries)}"))
        rows.append(("best reward", f"{max(one.reward for one in good):.2f}"))
    print(columns([("", ""), *rows], left=1))
