"""The ticket: a mask, the weights it starts from, and how it was found."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from tombola.errors import TicketError
from tombola.masks import Mask
from tombola.tickets.container import AT_MOST
from tombola.tickets.fitting import form, own_copy, require_alike, require_fit, state_entries
from tombola.tickets.level import Level
from tombola.tickets.plain import plain, shown
from tombola.tickets.reading import read_ticket, start_weights, trained_weights
from tombola.tickets.writing import write_ticket
from tombola.training.places import bare
from tombola.training.state import State, load_state

__all__ = ["Ticket"]

Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True, kw_only=True, eq=False)
class Ticket:
    """A mask and the weights it starts from; what it trains to, how it was found, and notes, where they are known.

    The tensors are copies, so nothing that happens to a network changes a ticket.

    Args:
        mask: which weights exist.
        weights: every entry of the model's `state_dict()` (buffers too) at the start; exactly 0 where the mask prunes.
        trained: the same entries after training under the mask.
        history: the trainings on the way, in order.
        metadata: what JSON can hold: recipe, data fingerprint, verdict, versions, ...

    Raises:
        TicketError: mask and weights do not fit, a pruned weight is not 0, or the metadata are not JSON.

    >>> import torch
    >>> mask = Mask({"weight": torch.tensor([[True, False], [False, True]])})
    >>> ticket = Ticket(mask=mask, weights={"weight": torch.tensor([[1.0, 0.0], [0.0, 2.0]]), "bias": torch.zeros(2)})
    >>> ticket.apply(nn.Linear(2, 2)).weight.tolist()
    [[1.0, 0.0], [0.0, 2.0]]
    """

    mask: Mask
    weights: State
    trained: State | None = None
    history: tuple[Level, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        weights = own_copy(self.mask, self.weights, "weights")
        object.__setattr__(self, "weights", weights)
        if self.trained is not None:
            trained = own_copy(self.mask, self.trained, "trained")
            require_alike(trained, weights)
            object.__setattr__(self, "trained", trained)
        object.__setattr__(self, "history", tuple(self.history))
        object.__setattr__(self, "metadata", plain(self.metadata, "metadata"))

    def apply(self, model: Model) -> Model:
        """Write the start weights into `model`, in place, and return it: a plain module, with nothing of Tombola in it.

        Raises:
            TicketError: the model does not fit; names the tensor, what is expected and what was found. The model is
                then as it was.
        """
        if not isinstance(model, nn.Module):
            raise TicketError(f"A ticket is applied to a torch.nn.Module; got a {type(model).__name__}.")
        whole = model.state_dict().keys() == self.weights.keys()  # a ticket may be of the wrapper itself
        target: nn.Module = model if whole else bare(model)
        require_fit(target, self.weights)
        load_state(target, self.weights)
        return model

    def transfer(self, model: nn.Module, mapping: Mapping[str, str] | None = None) -> Ticket:
        """The ticket for another model: what the two have in common comes from here, the rest is the model's own.

        `ticket.transfer(other).apply(other)` writes it. The trained weights and the history stay behind.

        Args:
            model: is not changed.
            mapping: name here -> name in `model`, for exactly the tensors to be taken over. Without it: every tensor
                that has the same name, shape and dtype in both.

        Raises:
            TicketError: a mapped tensor does not exist or is not equal in shape and dtype, or no masked one is common.

        >>> import torch
        >>> ticket = Ticket(mask=Mask({"weight": torch.eye(2) > 0}), weights={"weight": torch.eye(2)})
        >>> ticket.transfer(nn.Sequential(nn.Linear(2, 2)), {"weight": "0.weight"}).mask.kept
        {'0.weight': 2}
        """
        own = state_entries(model)
        pairs = self._common(own) if mapping is None else self._mapped(own, mapping)
        there = {place: name for name, place in pairs.items()}
        kept = {place: self.mask[there[place]] for place in own if there.get(place) in self.mask}
        if not kept:
            name = next(iter(self.mask))
            has = form(own[name]) if name in own else "no tensor of that name"
            raise TicketError(
                f"No masked tensor of the ticket is in {type(model).__name__}: for {shown(name)} the ticket has "
                f"{form(self.weights[name])}, the model {has}; give a mapping {{name here: name there}}."
            )
        weights = {place: self.weights[there[place]] if place in there else own[place] for place in own}
        left = [name for name in self.weights if name not in pairs]
        fresh = [place for place in own if place not in there]
        notes = {"transfer": {"left_out": left, "of_the_model": fresh, "mapping": pairs if mapping else None}}
        return Ticket(mask=Mask(kept), weights=weights, metadata={**self.metadata, **notes})

    def _common(self, own: Mapping[str, Tensor]) -> dict[str, str]:
        return {name: name for name, value in self.weights.items() if name in own and form(own[name]) == form(value)}

    def _mapped(self, own: Mapping[str, Tensor], mapping: Mapping[str, str]) -> dict[str, str]:
        if len(set(mapping.values())) < len(mapping):
            raise TicketError("The mapping gives two tensors of the ticket to one of the model; give each its own.")
        for name, place in mapping.items():
            if name not in self.weights:
                raise TicketError(f"The mapping names {shown(name)}, which the ticket does not have.")
            if place not in own or form(own[place]) != form(self.weights[name]):
                has = form(own[place]) if place in own else "no such tensor"
                wanted = form(self.weights[name])
                raise TicketError(f"The mapping gives {shown(name)} to {shown(place)}: expected {wanted}, got {has}.")
        return dict(mapping)

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        trained: bool = True,
        seed: int | None = None,
        build: Callable[[int], nn.Module] | None = None,
    ) -> Path:
        """Write the ticket to a file, whole or not at all.

        Args:
            path: its folder must exist; a file of that name is replaced.
            trained: keep the trained weights, where there are any.
            seed: keep this seed in place of the start weights: `build(seed)` makes them again when the file is loaded.
            build: `(seed) -> model`, called with the global generators set from the seed; a `tickets.NamedModel` is
                noted in the file, so that loading needs no `build`.

        Returns:
            The path.

        Raises:
            TicketError: `build(seed)` does not make these start weights, or the file cannot be written.

        >>> import tempfile, torch
        >>> ticket = Ticket(mask=Mask({"weight": torch.eye(2) > 0}), weights={"weight": torch.eye(2)})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Ticket.load(ticket.save(f"{folder}/my.ticket")).weights["weight"].tolist()
        [[1.0, 0.0], [0.0, 1.0]]
        """
        write_ticket(
            Path(path),
            mask=self.mask,
            weights=self.weights,
            trained=self.trained if trained else None,
            history=self.history,
            metadata=self.metadata,
            seed=seed,
            build=build,
        )
        return Path(path)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        build: Callable[[int], nn.Module] | None = None,
        *,
        at_most: int = AT_MOST,
    ) -> Ticket:
        """The ticket in a file. All of it is checked, and nothing in it is run.

        Args:
            build: `(seed) -> model`, for a file that holds the seed of its start weights.
            at_most: bytes that the weights may fill when unpacked.

        Raises:
            TicketError: no ticket, truncated, altered, too large, or a seed that makes other weights.
        """
        sealed = read_ticket(Path(path), at_most=at_most)
        weights, trained = start_weights(sealed, build), trained_weights(sealed)
        with sealed.named():
            return cls(
                mask=sealed.mask,
                weights=weights,
                trained=trained,
                history=sealed.history,
                metadata=sealed.metadata,
            )
