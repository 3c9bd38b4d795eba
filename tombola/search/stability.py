"""Stability: is the same network found again when the same start is trained in another order?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from tombola.answers import Answer, Trained
from tombola.masks import Mask
from tombola.requests import Arm, Fit, Found, Interpolate, Request, Round, Search
from tombola.starts import At, Moment, Start
from tombola.streams import derive

__all__ = ["CHILD", "DENSE", "INSIDE", "PAIR", "PRUNED", "Siblings", "stability"]

DENSE = Arm(name="dense")
CHILD, INSIDE, PAIR, PRUNED = "child", "child-dense", "pair", "pruned"


@dataclass(frozen=True, kw_only=True, slots=True)
class Siblings:
    """One network of one replicate, to be trained several times from what the dense training was at one step.

    Args:
        level: of the network.
        seed: of the replicate.
        dense: its dense training; keeps the states that siblings start from.
        mask: the network's; that of level 0 for the dense one.
        pruned: whether it is another network than the dense one.
        step: k, before the last step of the dense training.
        children: how many, 2 or more; every pair of them is compared.
        points, recompute, examples: of `tombola.requests.Interpolate`.
    """

    level: int
    seed: int
    dense: Fit
    mask: Mask
    pruned: bool
    step: int
    children: int
    points: int
    recompute: int
    examples: int

    def child(self, origin: Start, number: int, mask: Mask | None) -> Fit:
        """A training from step k to the end, in an order and with noise of its own; the dense and every pruned child
        of a number have them in common."""
        order, noise = (derive(self.seed, "stability", what, number) for what in ("order", "noise"))
        return Fit(start=origin, mask=mask, first=self.step, last=self.dense.last, order=order, noise=noise)

    def between(self, one: At, other: At, origin: Start, points: int) -> Interpolate:
        """The line between the ends of two trainings."""
        return Interpolate(
            one=one,
            other=other,
            origin=origin,
            mask=self.mask,
            points=points,
            recompute=self.recompute,
            examples=self.examples,
        )


def stability(plan: Siblings) -> Search:
    """Train children from the same state under other orders and noise, and walk from each to each in a straight line.

    Instability analysis of Frankle et al. (2020, arXiv 1912.05671); and, for a pruned network, how far it has come
    from the same weights inside the dense network trained likewise (Frankle et al. 2019, arXiv 1903.01611). Children
    begin with a fresh optimizer, as rewound tickets do.
    """
    answers = yield Round(level=plan.level, ask={DENSE: plan.dense})
    dense = answers[DENSE]
    assert isinstance(dense, Trained)
    origin: Start = dense.at(plan.step) if plan.step else plan.dense.start
    numbers = range(plan.children)
    mask = plan.mask if plan.pruned else None
    answers = yield Round(level=plan.level, ask=_numbered(CHILD, [plan.child(origin, n, mask) for n in numbers]))
    ends = _ends(answers)
    pairs = [plan.between(one, other, origin, plan.points) for one, other in combinations(ends, 2)]
    inside = [plan.child(origin, n, None) for n in numbers] if plan.pruned else []
    answers = yield Round(level=plan.level, ask={**_numbered(PAIR, pairs), **_numbered(INSIDE, inside)})
    whole = _ends({arm: answer for arm, answer in answers.items() if arm.name == INSIDE})
    apart = [plan.between(*two, origin, 0) for two in zip(ends, whole, strict=False)]
    yield Round(level=plan.level, ask=_numbered(PRUNED, apart))
    return Found(mask=plan.mask)


def _numbered(name: str, requests: Sequence[Request]) -> dict[Arm, Request]:
    return {Arm(name=name, draw=number): request for number, request in enumerate(requests)}


def _ends(answers: Mapping[Arm, Answer]) -> list[At]:
    """The last states of trainings, in order of their numbers."""
    return [a.at(Moment.END) for _, a in sorted(answers.items()) if isinstance(a, Trained)]
