"""Searches driven by hand: what they ask for; no network is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
from torch import Tensor, nn

from tombola.allocation import Layerwise
from tombola.answers import Answer, Curve, Point, Pruned, Trained
from tombola.criteria import Probe, needs
from tombola.criteria.weights import random
from tombola.masks import Mask
from tombola.pruning import Pruner
from tombola.requests import CUT, GRADUAL, TICKET, Arm, Fit, Found, Prune, Request, Round, Search
from tombola.resets import FineTune
from tombola.schedules import geometric
from tombola.search import CONTROLS, SEARCHES, Plan
from tombola.specs import digest
from tombola.starts import Moment

MODEL = nn.Sequential(nn.Linear(8, 12), nn.Linear(12, 8), nn.Linear(8, 4))
DENSE = Mask.dense(MODEL)
KEEPS = tuple(sum(c.values()) for c in geometric(DENSE.kept, Layerwise().rates(DENSE), 3))
STEPS, STOP = 100, 30


@dataclass
class Asked:
    """All that a search asked for: rounds in order, the fits of each level by arm, what made its mask (a cut, or a
    training that was pruned on its way; those of controls in `others`), the masks, and what it found."""

    rounds: list[Round]
    fits: dict[int, dict[Arm, Fit]]
    cuts: dict[int, Prune | Fit]
    others: dict[int, dict[str, Prune | Fit]]
    masks: dict[int, Mask]
    found: Found

    @property
    def levels(self) -> list[int]:
        return sorted(self.masks)

    def ticket(self, level: int) -> Fit:
        return self.fits[level][TICKET]

    def scored(self, level: int) -> Fit:
        """The whole training whose weights gave the mask of a level."""
        cut = self.cuts[level]
        return cut if isinstance(cut, Fit) else self.ticket(0 if digest(cut.mask) == digest(DENSE) else level - 1)


@needs(data=True)
def looking(model: nn.Module, mask: Mask, probe: Probe) -> dict[str, Tensor]:
    """Stands for a criterion that looks at examples; `answer` draws in its place."""
    return random(model, mask, probe)


CORRUPTED = {"inverted", "random-labels", "random-inputs"}
EVERY = {"ticket", "reinit", "shuffled", "small-dense", "untrained", *CORRUPTED}


def plan(**changes: Any) -> Plan:
    fields: dict[str, Any] = {
        "seed": 11,
        "dense": DENSE,
        "keeps": KEEPS,
        "pruner": Pruner(criterion=looking, allocation=Layerwise()),
        "score_at": Moment.END,
        "steps": STEPS,
        "controls": tuple(CONTROLS),
    }
    return Plan(**{**fields, **changes})


def answer(request: Request) -> Answer:
    """A training with its smallest validation loss 30 steps after its first; a cut by random scores of its probe."""
    dynamics = request.dynamics if isinstance(request, Fit) else request
    mask = None
    if dynamics is not None:
        drawn = Probe(seed=dynamics.seed ^ int(digest(dynamics.probe)[:12], 16))
        keep = dynamics.keep if isinstance(dynamics, Prune) else dynamics.keeps[-1][1]
        mask = replace(dynamics.pruner, criterion=random)(MODEL, request.mask or DENSE, keep, drawn)
    if isinstance(request, Prune):
        assert mask is not None
        return Pruned(request=digest(request), mask=mask)
    steps = sorted({request.first, min(request.first + STOP, request.last), request.last})
    points = tuple(Point(step=s, validation_loss=abs(s - request.first - STOP)) for s in steps)
    curve = Curve(points=points)
    return Trained(request=digest(request), first=request.first, last=request.last, curve=curve, mask=mask)


def drive(search: Search) -> Asked:
    rounds: list[Round] = []
    answers: Mapping[Arm, Answer] | None = None
    while True:
        try:
            asked = next(search) if answers is None else search.send(answers)
        except StopIteration as end:
            found = end.value
            break
        rounds.append(asked)
        answers = {arm: answer(request) for arm, request in asked.ask.items()}
    fits: dict[int, dict[Arm, Fit]] = {}
    cuts: dict[int, Prune | Fit] = {}
    others: dict[int, dict[str, Prune | Fit]] = {}
    masks: dict[int, Mask] = {}
    for one in rounds:
        for arm, request in {**one.ask, **one.aside}.items():
            if arm in (CUT, GRADUAL):
                assert one.level not in cuts
                cuts[one.level] = request
                masks[one.level] = mask_of(request)
            elif arm.name.startswith("cut-"):
                others.setdefault(one.level, {})[arm.name.removeprefix("cut-")] = request
            else:
                assert isinstance(request, Fit) and request.dynamics is None
                assert arm not in fits.setdefault(one.level, {})
                fits[one.level][arm] = request
    return Asked(rounds=rounds, fits=fits, cuts=cuts, others=others, masks=masks, found=found)


def mask_of(request: Request) -> Mask:
    mask = answer(request).mask
    assert mask is not None
    return mask


BY_STEP = {"keeps": KEEPS[-1:], "cuts": ((20, KEEPS[0]), (30, KEEPS[1]), (60, KEEPS[2]))}


def asked(name: str, **changes: Any) -> Asked:
    return drive(SEARCHES[name].load()(plan(**(BY_STEP if name == "gradual" else {}), **changes)))


every_search = pytest.mark.parametrize("name", SEARCHES)
by_level = pytest.mark.parametrize("name", [name for name in SEARCHES if name != "gradual"])
every_variant = pytest.mark.parametrize(
    "changes",
    [{}, {"rewind_to": 20}, {"search_steps": 60}, {"rewind_to": 20, "search_steps": 60}, {"reset": FineTune()}],
    ids=["plain", "rewound", "short", "rewound-short", "fine-tuned"],
)


def requests_of(a: Asked) -> list[Request]:
    return [request for one in a.rounds for request in (*one.ask.values(), *one.aside.values())]


def fits_of(a: Asked) -> list[Fit]:
    return [request for request in requests_of(a) if isinstance(request, Fit)]
