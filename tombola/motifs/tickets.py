"""The lottery-ticket experiment on gene networks: random starts, half of the edges, five ways to go on from there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tombola.answers import Answer, Trained
from tombola.errors import UsageError
from tombola.experiment import Experiment, on_task, run_experiment
from tombola.motifs.task import GeneTask, gene_recipe
from tombola.requests import Place
from tombola.runner import Watcher
from tombola.statistics import greater, holm, interval, t_interval
from tombola.statistics.shares import mcnemar, wilson
from tombola.store import Store
from tombola.watching import Silent

__all__ = ["ARMS", "COMPARED", "DENSE", "Counted", "Terms", "experiments", "played", "told"]

DENSE = "dense"

ARMS = {
    "fine-tune": "the trained weights, with the climb begun anew (the library's lr-rewind)",
    "late rewind": "the weights of an early round",
    "rewind to start": "the first weights: the ticket",
    "random mask": "the first weights under a random mask of the same size",
    "reinit": "the ticket's mask on other random weights",
}
"""Arm -> what it starts from."""

COMPARED = (
    ("rewind to start", "reinit"),
    ("rewind to start", "random mask"),
    ("late rewind", "reinit"),
    ("late rewind", "random mask"),
)
"""(the one, the other): tested one-sided for the one earning more, Holm over all of them; declared beforehand."""

_ALPHA = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """What is played.

    Args:
        starts: random networks, 1 or more.
        keep: edges that a ticket keeps, cut in one shot by |weight| at the end of the dense climb.
        late: the round of the late rewind, 1 or more.
        success: a reward of at least this.
        seed: of everything.

    Raises:
        UsageError: a number out of range.
    """

    starts: int = 210
    keep: int = 24
    late: int = 2
    success: float = 20.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("starts", "keep", "late"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; expected a whole number, 1 or more.")
        if not 0 <= self.success < float("inf"):
            raise UsageError(f"success is {self.success}; expected a reward, 0 or more.")


class Counted(Silent):
    """Tells how many different climbs are done."""

    def __init__(self, tell: Callable[[int], None]) -> None:
        self._tell, self._done = tell, set[str]()

    def answered(self, place: Place, answer: Answer) -> None:
        """Count it."""
        if isinstance(answer, Trained):
            self._done.add(answer.request)
            self._tell(len(self._done))


def experiments(task: GeneTask, terms: Terms) -> dict[str, Experiment]:
    """The three experiments that the arms are of; they share dense climbs and masks.

    Raises:
        UsageError: more edges than there are, or a late rewind behind the last round.
    """
    edges = task.genes**2
    if terms.keep >= edges:
        raise UsageError(f"keep is {terms.keep} of {edges} edges; expected fewer.")
    common = {"replicates": terms.starts, "seed": terms.seed, "schedule": f"custom:densities={terms.keep / edges!r}"}
    kinds: dict[str, dict[str, Any]] = {
        "rewind to start": {"controls": ("reinit", "shuffled")},
        "late rewind": {"rewind_to": terms.late, "controls": ()},
        "fine-tune": {"reset": "lr-rewind", "controls": ()},
    }
    return {name: on_task(gene_recipe(task, **common, **changes), task) for name, changes in kinds.items()}


def played(
    task: GeneTask, terms: Terms, store: Store, *, watcher: Watcher | None = None
) -> dict[str, dict[int, float]]:
    """Arm -> start -> the reward it ends with; what the store has is not computed again.

    Raises:
        UsageError: as `experiments`; a climb that failed.
    """
    found: dict[str, dict[int, float]] = {}
    for name, experiment in experiments(task, terms).items():
        results = run_experiment(experiment, store, watcher=watcher)
        for failure in results.failures:
            raise UsageError(f"A climb of the arm {name} failed: {failure.cause}")
        arms = results.document["arms"]
        rows = {name: arms["ticket"]}
        if name == "rewind to start":
            rows |= {"random mask": arms["shuffled"], "reinit": arms["reinit"]}
            found[DENSE] = _ends([row for row in arms["ticket"] if row["level"] == 0], store)
        found |= {arm: _ends([row for row in there if row["level"] == 1], store) for arm, there in rows.items()}
    return {arm: found[arm] for arm in (DENSE, *ARMS)}


def _ends(rows: Sequence[Mapping[str, Any]], store: Store) -> dict[int, float]:
    ends = {}
    for row in rows:
        answer = store.get(row["fit_digest"])
        end = answer.curve.end if isinstance(answer, Trained) else None
        if end is not None and end.test_metric is not None:
            ends[int(row["replicate"])] = end.test_metric
    return ends


def told(rewards: Mapping[str, Mapping[int, float]], terms: Terms) -> dict[str, Any]:
    """What the rewards say, over the starts whose dense climb succeeds: without one there is nothing to find again.

    Args:
        rewards: as `played` gives them.

    Returns:
        {"schema": 1, "terms", "starts", "among": [start, ...], "arms": [...], "comparisons": [...], "sentence"};
        shares have Wilson's interval, means Student's; p of a comparison is that of the paired one-sided t test,
        adjusted by Holm, beside McNemar's exact two-sided p of the successes.

    >>> tie = {arm: {0: 24.0, 1: 21.0, 2: 30.0} for arm in (DENSE, *ARMS)}
    >>> told(tie, Terms(starts=3))["sentence"]
    'No ticket is shown: over 3 starts, rewinding to the start is not shown to earn more than reinit and random mask.'
    """
    everywhere = set.intersection(*(set(found) for found in rewards.values()))
    among = sorted(start for start in everywhere if rewards[DENSE][start] >= terms.success)
    arms = [_arm(arm, [rewards[arm][start] for start in among], terms.success) for arm in rewards]
    comparisons, unadjusted = list[dict[str, Any]](), list[float | None]()
    for one, other in COMPARED:
        pairs = [(rewards[one][start], rewards[other][start]) for start in among]
        differences = [a - b for a, b in pairs]
        low, high = t_interval(differences)
        unadjusted.append(greater(differences).p)
        comparisons.append(
            {
                "one": one,
                "other": other,
                "difference": interval(differences).mean if differences else None,
                "low": low,
                "high": high,
                "unadjusted_p": unadjusted[-1],
                "success_p": mcnemar((a >= terms.success, b >= terms.success) for a, b in pairs),
            }
        )
    adjusted = holm(unadjusted)
    comparisons = [{**one, "p": p} for one, p in zip(comparisons, adjusted, strict=True)]
    document = {
        "schema": 1,
        "terms": asdict(terms),
        "starts": len(everywhere),
        "among": among,
        "arms": arms,
        "comparisons": comparisons,
        "rewards": {arm: {str(start): found[start] for start in sorted(found)} for arm, found in rewards.items()},
    }
    return {**document, "sentence": _sentence(comparisons, len(among))}


def _arm(name: str, values: Sequence[float], success: float) -> dict[str, Any]:
    share = wilson(sum(value >= success for value in values), len(values))
    mean = interval(values) if values else None
    return {
        "arm": name,
        "n": len(values),
        "successes": share.successes,
        "share": share.share,
        "share_low": share.low,
        "share_high": share.high,
        "mean": mean and mean.mean,
        "low": mean and mean.low,
        "high": mean and mean.high,
    }


def _sentence(comparisons: Sequence[Mapping[str, Any]], n: int) -> str:
    """What is shown about rewinding to the start, and no more."""
    shown = {(one["one"], one["other"]): one["p"] is not None and one["p"] < _ALPHA for one in comparisons}
    start = [pair for pair in COMPARED if pair[0] == "rewind to start"]
    missing = [other for one, other in start if not shown[one, other]]
    over = f"over {n} start{'' if n == 1 else 's'}"
    if not missing:
        words = " and ".join(other for _, other in start)
        return f"A ticket is shown: {over}, rewinding to the start earns more than {words} (one-sided t, Holm)."
    words = " and ".join(missing)
    return f"No ticket is shown: {over}, rewinding to the start is not shown to earn more than {words}."
