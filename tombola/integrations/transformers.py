"""Transformers: the level that is trained, in the `Trainer`'s log.

`find_ticket` needs nothing of this: a `Trainer.train` inside the user's `train` is enough.

    def train(model):
        Trainer(model=model, args=args, train_dataset=data, callbacks=[TicketCallback()]).train()

    ticket = tombola.find_ticket(model, train)
"""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.utils import logging

from tombola.levels import now

__all__ = ["TicketCallback"]

_LOGGER = logging.get_logger(__name__)


class TicketCallback(TrainerCallback):
    """Says which level is trained, and adds `ticket_level` and `ticket_density` to every row of the log.

    >>> isinstance(TicketCallback(), TrainerCallback)
    True
    """

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **further: Any
    ) -> None:
        """One line, through the logger of Transformers (at its level "info")."""
        going = now()
        if going is not None and state.is_world_process_zero:
            _LOGGER.info(f"Ticket: {going.name}, {going.mask.density:.1%} of {going.mask.total:,} weights")

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **further: Any,
    ) -> None:
        """Two numbers beside the trainer's own, in what is reported and in the history."""
        going = now()
        if going is None:
            return
        found = {"ticket_level": going.level, "ticket_density": going.mask.density}
        for row in (logs, state.log_history[-1] if state.log_history else None):
            if row is not None:
                row.update(found)
