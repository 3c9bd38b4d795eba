"""Winning tickets in a user's own loop, which stays as it is."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Literal

from torch import Tensor, nn

from tombola.allocation import Allocation
from tombola.asked import Asked
from tombola.criteria import Criterion, Probe
from tombola.errors import UsageError
from tombola.ladder import along, sparsest
from tombola.levels import Train
from tombola.notes import metadata, say
from tombola.procedure import Given, begin
from tombola.ranks import is_first, require_group
from tombola.rewinding import masked_state
from tombola.shelf import Shelf
from tombola.tensors import digest_tensors
from tombola.tickets import Level, Ticket

__all__ = ["find_ticket"]


def find_ticket(
    model: nn.Module | Callable[[], nn.Module],
    train: Train,
    evaluate: Callable[[nn.Module], float] | None = None,
    *,
    levels: int | None = None,
    rate: float = 0.2,
    min_metric: float | None = None,
    criterion: str | Criterion = "magnitude",
    probe: Probe | None = None,
    allocation: str | Allocation = "global",
    reset: Literal["rewind", "fine-tune"] = "rewind",
    rewind_to: int = 0,
    after_rewind: Literal["continue", "restart"] = "continue",
    protect: str | Sequence[str] | Callable[[str, Tensor], bool] = (),
    controls: Sequence[str] = (),
    replicates: int = 1,
    store: str | os.PathLike[str] | None = None,
    key: str = "",
) -> Ticket:
    """Find a ticket by iterative pruning of a model in a training loop of your own, which stays as it is.

    Level 0 trains the dense model. Each further level prunes what the one before it has trained, puts the surviving
    weights back to where they began, and runs `train` again; masks are enforced through hooks on parameters and
    optimizers. Python's, numpy's and torch's global random state is the same at the beginning of every level, and put
    back afterwards. A module is left with the weights that the ticket was trained to.

    A step is a maximal run of effective optimizer steps in which no parameter is updated twice
    (`tombola.training.steps`): two optimizers over disjoint parts make one step together.

    Args:
        model: the module, or a factory of it, which `controls=("reinit",)` and several replicates need.
        train: trains the module that it is given, in place, with optimizers made within; called once a level.
        evaluate: a number for the trained module, larger is better.
        levels: prunings; None: down to a density of 10 %, with `min_metric` 1 %.
        rate: fraction of the surviving weights that goes at each level.
        min_metric: find the sparsest ticket for which `evaluate` gives this or more, in about log2(levels) trainings
            (`levels` is then the most that is tried). It is searched for as if the metric fell with density, in leaps
            over several levels, until one more level is too many.
        criterion, allocation: as for `tombola.prune`. A criterion that scores at initialization (`snip`, `synflow`)
            scores the start weights.
        probe: batches and loss, for a criterion that looks at examples (`tombola.criteria.Probe`).
        reset: "rewind", or "fine-tune": the survivors go on from their trained weights (prune and fine-tune).
        rewind_to: step k of level 0 whose weights, and buffers, the survivors are rewound to; 0: before the training.
        after_rewind: "continue": learning rates and data order go on from k, for which the weights of step k are put
            back after each of the first k steps of the loop; "restart": the whole loop runs from the weights of k.
        protect: patterns over the names of parameters that stay dense (`["*head*"]`), or `(name, parameter) -> bool`.
        controls: "reinit" (the mask on fresh weights) and "shuffled" (as many weights in each tensor, elsewhere),
            trained at the ticket's level; they stand in the ticket's history.
        replicates: independent procedures, each with an initialization and random state of its own; the ticket is that
            of the first. From three on, with `evaluate`, the metadata hold a verdict.
        store: directory in which finished levels are kept, so that the same call goes on where it was ended.
        key: names this pair of `train` and `evaluate` in the store; change it when they change.

    Returns:
        The ticket: mask, start weights, trained weights, history of all trainings, metadata.

    Raises:
        TombolaError: an argument, model or loop that cannot give a ticket; names the fix. No hook is left behind.

    >>> import torch
    >>> _ = torch.manual_seed(0)
    >>> x = torch.randn(64, 6)
    >>> def train(model):
    ...     optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    ...     for _ in range(5):
    ...         optimizer.zero_grad()
    ...         (model(x)[:, 0] - x[:, 0]).square().mean().backward()
    ...         optimizer.step()
    >>> ticket = find_ticket(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1)), train, levels=2, rate=0.5)
    >>> [(level.level, level.kept, level.steps) for level in ticket.history]
    [(0, 56, 5), (1, 28, 5), (2, 14, 5)]
    """
    for name, value, kinds, wanted in (
        ("controls", controls, list | tuple | str, "a list of 'reinit' and 'shuffled'"),
        ("probe", probe, Probe | None, "a tombola.criteria.Probe"),
        ("store", store, str | os.PathLike | None, "a directory"),
    ):
        if not isinstance(value, kinds) or value == "":
            raise UsageError(f"{name}={value!r}; expected {wanted}.")
    asked = Asked(
        levels=levels,
        rate=rate,
        min_metric=min_metric,
        criterion=criterion,
        allocation=allocation,
        reset=reset,
        rewind_to=rewind_to,
        after_rewind=after_rewind,
        controls=(controls,) if isinstance(controls, str) else tuple(controls),
        replicates=replicates,
        key=key,
    )
    asked.check(model, train, evaluate)
    history: list[Level] = []

    def told(level: Level) -> None:
        history.append(level)
        say(level)

    shelf = None
    if store is not None:
        require_group()
        shelf = Shelf(store, key)
    given = Given(
        model=model, train=train, evaluate=evaluate, asked=asked, protect=protect, probe=probe, shelf=shelf, told=told
    )
    ours = begin(given, 0)
    with shelf.alone(shelf.name(ours.first)) if shelf and is_first() else contextlib.nullcontext():
        dense = ours.dense()
        walk = along(range(len(ours.keeps))) if min_metric is None else sparsest(len(ours.keeps) - 1)
        found = ours.follow(dense, walk)
        ours.control(found, dense)
        for number in range(1, replicates):
            other = begin(given, number)
            dense = other.dense()
            other.control(other.follow(dense, along(ours.path)), dense)
    ours.leave(found)
    mask = found.course.mask
    return Ticket(
        mask=mask,
        weights=masked_state(ours.stage.own, found.course.start, mask),
        trained=found.ran.trained,
        history=tuple(history),
        metadata=metadata(asked, mask, digest_tensors(ours.start), history, found.level),
    )
