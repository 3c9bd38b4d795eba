"""Lightning: the level that is trained, in its log and progress bar.

`find_ticket` needs nothing of this: a `Trainer.fit` inside the user's `train` is enough.

    def train(model):
        Trainer(max_epochs=3, callbacks=[TicketCallback()]).fit(MyLightningModule(model), loader)

    ticket = tombola.find_ticket(model, train)
"""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from tombola.levels import now

__all__ = ["TicketCallback"]


class TicketCallback(Callback):
    """Says which level is trained, and logs `ticket/level` and `ticket/density` every epoch; nothing elsewhere.

    Args:
        prog_bar: show both in the progress bar too.

    >>> TicketCallback(prog_bar=False).prog_bar
    False
    """

    def __init__(self, prog_bar: bool = True) -> None:
        self.prog_bar = prog_bar

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """One line, in the style and through the logger of Lightning."""
        going = now()
        if going is not None:
            rank_zero_info(f"Ticket: {going.name}, {going.mask.density:.1%} of {going.mask.total:,} weights")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Two numbers beside the user's own."""
        going = now()
        if going is not None:
            found: dict[str, Any] = {"ticket/level": float(going.level), "ticket/density": going.mask.density}
            pl_module.log_dict(found, prog_bar=self.prog_bar, logger=True, batch_size=1)
