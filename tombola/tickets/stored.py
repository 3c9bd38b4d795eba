"""The ticket of an experiment in a store."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from tombola.analysis.document import results_document
from tombola.analysis.verdict import experiment_verdict
from tombola.answers import Pruned, Trained
from tombola.errors import TicketError, suggest
from tombola.masks import Mask
from tombola.models.net import Net
from tombola.models.registry import MODELS
from tombola.requests import MASKED, ProbeSpec
from tombola.resets import FineTune, Ground, LrRewind, Rewind, reset_of
from tombola.specs import canonical
from tombola.store import Damaged, Store
from tombola.tickets.fitting import same_bits
from tombola.tickets.level import Level
from tombola.tickets.seed import NamedModel
from tombola.tickets.ticket import Ticket
from tombola.training.state import State

__all__ = ["Stored", "stored_ticket"]


_ORDINARY: dict[str, object] = {
    "schedule": "geometric",
    "granularity": "natural",
    "reset_pruned": "zero",
    "probe": asdict(ProbeSpec()),
}
"""Fields that a recipe may say something with, and what they are where it does not."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Stored:
    """A ticket out of a store.

    Args:
        level, replicate: which one.
        seed: of its start weights; None: they come from a training.
        build: makes the network from the seed; None: it is the user's own.
    """

    ticket: Ticket
    level: int
    replicate: int
    seed: int | None = None
    build: NamedModel | None = None


def stored_ticket(store: Store, prefix: str, *, level: int | None = None, replicate: int = 0) -> Stored:
    """The ticket of one level and replicate of an experiment, with its history and verdict.

    Args:
        prefix: how the experiment's digest begins.
        level: None: the smallest winning one, or where none wins the last one.

    Raises:
        UsageError: there is no such experiment or ticket.
        TicketError: the store has lost what the ticket is made of.
    """
    digest, content = store.experiment(prefix)
    document = results_document(digest, content, store)
    verdict = experiment_verdict(content, document) if content["metric"] == "accuracy" else None
    rows = {(row["level"], row["replicate"]): row for row in document["arms"].get("ticket", ())}
    levels = sorted(at for at, number in rows if number == replicate)
    won: Any = verdict["overall"]["level"] if verdict else None
    deepest: int = won if won in levels else max(levels, default=0)
    chosen = deepest if level is None else level
    if (chosen, replicate) not in rows:
        known = [f"level {at} of replicate {number}" for at, number in rows]
        wanted = f"level {chosen} of replicate {replicate}"
        raise TicketError(f"The experiment {digest[:12]} has no ticket of {wanted}. {suggest(wanted, known)}")
    settings = tomllib.loads(content["settings"])
    try:
        ticket, seed, mask = _parts(store, content, rows, chosen, replicate)
    except (Damaged, KeyError) as error:
        raise TicketError(
            f"The store no longer holds the weights or the mask of level {chosen}, replicate {replicate}; "
            f"run the same experiment again: {content['command'] or 'tombola.run(...)'}."
        ) from error
    named = None
    if settings["model"] in MODELS:
        net = Net(**{**settings["net"], "hidden": tuple(settings["net"]["hidden"])})
        outputs = list(mask.shapes.values())[-1][0]
        shape = tuple(content["input_shape"])
        named = NamedModel(name=settings["model"], input_shape=shape, outputs=outputs, net=net)
    whole = Ticket(
        mask=mask,
        **ticket,
        history=_history(store, rows, levels, chosen, replicate, settings["endpoint"]),
        metadata=_metadata(digest, content, settings, chosen, replicate, verdict) | _network(content, named),
    )
    build = None if seed is None else named
    return Stored(ticket=whole, level=chosen, replicate=replicate, seed=seed, build=build)


def _parts(
    store: Store, content: Mapping[str, Any], rows: Mapping[tuple[int, int], Any], level: int, replicate: int
) -> tuple[dict[str, State], int | None, Mask]:
    """Start and trained weights, the seed of the former, and the mask. Raises `Damaged` or `KeyError`."""
    request = rows[level, replicate]["fit_digest"]
    answer, asked = store.get(request), store.asked(request)
    if not isinstance(answer, Trained):
        raise KeyError(request)
    if level:
        _refuse(asked)
    start, settings = asked["start"], tomllib.loads(content["settings"])
    made = start["class"] == "Made"
    weights = _start(store, start["initial"] if made else start, rows[0, replicate]["fit_digest"])
    mask = _mask(store, content, weights, level, replicate)
    if made:
        trained = {} if start["trained"] is None else _start(store, start["trained"], "")
        reset = reset_of(settings["reset"])
        if isinstance(reset, Rewind | LrRewind | FineTune) or canonical(reset) != start["reset"]:
            raise KeyError(settings["reset"])  # made by another version of it
        weights = reset(Ground(initial=weights, trained=trained, mask=mask, seed=start["seed"]))
    if level and mask.digest != answer.mask_digest:
        raise KeyError(answer.mask_digest)
    states = {"weights": _masked(weights, mask), "trained": _masked(store.state(answer.states[answer.last]), mask)}
    return states, start.get("seed") if start["class"] == "Init" else None, mask


def _refuse(asked: Mapping[str, Any]) -> None:
    """Raises `TicketError` for trainings that are more than survivors and their mask."""
    if asked.get("frozen") is not None:
        raise TicketError(
            "The pruned places of this experiment's tickets stand at constants (reset_pruned), and a ticket file holds "
            "survivors alone; run it with reset_pruned at zero, or take level 0."
        )
    if asked["mask"] is None:
        raise TicketError(
            "The reset of this experiment trains the network whole, so no level of it is a ticket; take level 0."
        )


def _start(store: Store, start: Mapping[str, Any], dense: str) -> State:
    """The stored state that a start means. Raises `Damaged` or `KeyError`.

    Args:
        dense: digest of the training whose first state are the initial weights.
    """
    maker: str = dense if start["class"] == "Init" else start["fit" if start["class"] == "At" else "prune"]
    answer = store.get(maker)
    if isinstance(answer, Pruned) and answer.state is not None:
        return store.state(answer.state)
    if not isinstance(answer, Trained) or (start["class"] == "Init" and store.asked(maker)["start"] != start):
        raise KeyError(maker)
    return store.state(answer.states[start.get("step", answer.first)])


def _mask(store: Store, content: Mapping[str, Any], weights: State, level: int, replicate: int) -> Mask:
    for row in content["rows"]:
        if row["arm"] in MASKED and (row["level"], row["replicate"]) == (level, replicate):
            cut = store.get(row["request"])
            if isinstance(cut, Trained | Pruned) and cut.mask is not None:
                return cut.mask
    if level:
        raise KeyError(level)
    return Mask({name: torch.ones(weights[name].shape, dtype=torch.bool) for name in content["prunable"]})


def _masked(state: State, mask: Mask) -> State:
    """The state with 0 where the mask prunes, also in a tensor that is tied to a masked one; in the mask's order."""
    modules = [name.rpartition(".")[0] for name in mask]

    def place(name: str) -> tuple[int, bool, str]:
        module = name.rpartition(".")[0]
        return modules.index(module) if module in modules else len(modules), name not in mask, name

    found = {name: state[name] for name in sorted(state, key=place)}
    for name, kept in mask.sparse().items():
        for twin, value in state.items():
            alike = value.shape == state[name].shape and value.dtype == state[name].dtype
            if twin == name or (alike and twin not in mask and same_bits(value, state[name])):
                found[twin] = value.masked_fill(~kept, 0)
    return found


def _history(
    store: Store, rows: Mapping[tuple[int, int], Any], levels: list[int], last: int, replicate: int, endpoint: str
) -> tuple[Level, ...]:
    field = "test_accuracy_at_early_stop" if endpoint == "early-stop" else "test_accuracy"
    found = []
    for level in (at for at in levels if at <= last):
        row = rows[level, replicate]
        answer = store.get(row["fit_digest"])
        if isinstance(answer, Trained):
            steps, seconds = answer.last - answer.first, round(answer.seconds, 3)
            found.append(
                Level(
                    level=level,
                    density=row["density"],
                    kept=row["kept"],
                    metric=row[field],
                    steps=steps,
                    seconds=seconds,
                    replicate=replicate,
                )
            )
    return tuple(found)


def _network(content: Mapping[str, Any], named: NamedModel | None) -> dict[str, Any]:
    """What builds the network again, and what it is given."""
    return {"input_shape": list(content["input_shape"]), **({"network": named.note()} if named else {})}


def _plain(name: str, value: object) -> bool:
    """A field of a recipe that says nothing: files are small."""
    return value in ("", []) or name == "summary" or _ORDINARY.get(name) == value


def _metadata(
    digest: str,
    content: Mapping[str, Any],
    settings: Mapping[str, Any],
    level: int,
    replicate: int,
    verdict: Mapping[str, Any] | None,
) -> dict[str, Any]:
    judged = next((one for one in verdict["levels"] if one["level"] == level), None) if verdict else None
    notes: dict[str, Any] = {
        "experiment": digest,
        "task": content["task"],
        **({"data": content["data_fingerprint"][:32]} if "data_fingerprint" in content else {}),  # not in older stores
        "level": level,
        "replicate": replicate,
        "metric": content["metric"],
        "recipe": {name: value for name, value in settings.items() if not _plain(name, value)},
        "made_with": content["provenance"],
    }
    if judged and verdict:
        names = ("verdict", "strict", "p", "adjusted_p")
        declared = {name: verdict[name] for name in ("margin", "endpoint", "replicates")}
        notes["verdict"] = {**{name: judged[name] for name in names}, **declared}
    if verdict:
        notes["sentence"] = verdict["overall"]["sentence"]
    return notes
