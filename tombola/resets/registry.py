"""The resets by name, listed without importing torch."""

from __future__ import annotations

from tombola.registry import Entry

__all__ = ["RESETS", "RESETS_PRUNED"]

_FRANKLE = "Frankle and Carbin 2019, arXiv 1803.03635"
_RENDA = "Renda et al. 2020, arXiv 2003.02389"
_ZHOU = "Zhou et al. 2019, arXiv 1905.01067"

RESETS: dict[str, Entry] = {
    "rewind": Entry(
        home="tombola.resets.base:Rewind",
        summary="survivors take back the weights of step --rewind-to (0: the initial ones)",
        source=f"{_FRANKLE}; Frankle et al. 2020, arXiv 1912.05671",
    ),
    "lr-rewind": Entry(
        home="tombola.resets.base:LrRewind",
        summary="survivors keep their trained weights; the learning rate goes back to step --rewind-to",
        source=_RENDA,
    ),
    "fine-tune": Entry(
        home="tombola.resets.base:FineTune",
        summary="survivors keep their trained weights and go on at the last learning rate",
        source=f"Han et al. 2015, arXiv 1506.02626; {_RENDA}",
        aliases=("continue",),
    ),
    "reinit": Entry(
        home="tombola.resets.survivors:reinit",
        summary="survivors draw values of their whole layer, without replacement",
        source=_ZHOU,
    ),
    "signed_reinit": Entry(
        home="tombola.resets.survivors:signed_reinit",
        summary="as reinit, with the sign that stood there",
        source=_ZHOU,
    ),
    "rand_signed_reinit": Entry(
        home="tombola.resets.survivors:rand_signed_reinit", summary="as reinit, with random signs", source=_ZHOU
    ),
    "reshuffle": Entry(
        home="tombola.resets.survivors:reshuffle",
        summary="survivors swap their initial values within the layer",
        source=_ZHOU,
    ),
    "signed_reshuffle": Entry(
        home="tombola.resets.survivors:signed_reshuffle",
        summary="survivors swap their magnitudes; every place keeps its sign",
        source=_ZHOU,
    ),
    "rand_signed_reshuffle": Entry(
        home="tombola.resets.survivors:rand_signed_reshuffle",
        summary="survivors swap their magnitudes, with random signs",
        source=_ZHOU,
    ),
    "signed_constant": Entry(
        home="tombola.resets.survivors:SignedConstant",
        summary="+a or -a by the sign that stood there, a the layer's standard deviation",
        source=_ZHOU,
        aliases=("constant",),
    ),
    "rand_signed_constant": Entry(
        home="tombola.resets.survivors:RandSignedConstant",
        summary="+a or -a by a coin, a the layer's standard deviation",
        source=_ZHOU,
    ),
    "resample": Entry(
        home="tombola.resets.survivors:resample",
        summary="survivors draw among their own initial values, with replacement",
        source=_FRANKLE,
    ),
    "wiggle": Entry(
        home="tombola.resets.survivors:Wiggle",
        summary="noise of c standard deviations of the layer on the initial values",
        source=_FRANKLE,
    ),
    "redraw_losers": Entry(
        home="tombola.resets.survivors:redraw_losers",
        summary="survivors rewound, all others drawn anew; the network trains whole",
    ),
}
"""What `--reset` takes: what the survivors restart from."""

RESETS_PRUNED: dict[str, Entry] = {
    "zero": Entry(home="tombola.resets.pruned:zero", summary="a pruned weight does not exist", source=_ZHOU),
    "freeze_init": Entry(
        home="tombola.resets.pruned:freeze_init", summary="frozen at their initial values", source=_ZHOU
    ),
    "freeze_reinit": Entry(
        home="tombola.resets.pruned:freeze_reinit", summary="frozen at values of their layer, drawn anew", source=_ZHOU
    ),
    "freeze_init_zero_mask": Entry(
        home="tombola.resets.pruned:freeze_init_zero_mask",
        summary="0 what training moved towards 0, the others frozen at their initial values",
        source=_ZHOU,
    ),
    "freeze_init_zero_mask_reshuffle": Entry(
        home="tombola.resets.pruned:freeze_init_zero_mask_reshuffle",
        summary="as many zeros as freeze_init_zero_mask has, at random pruned places",
        source=_ZHOU,
    ),
    "freeze_init_zero_mask_rev": Entry(
        home="tombola.resets.pruned:freeze_init_zero_mask_rev",
        summary="0 what training moved away from 0, the others frozen at their initial values",
        source=_ZHOU,
    ),
    "freeze_init_zero_all": Entry(
        home="tombola.resets.pruned:FreezeInitZeroAll",
        summary="freeze_init_zero_mask, and survivors that moved towards 0 start at 0",
        source=_ZHOU,
    ),
    "freeze_init_zero_all_reshuffle": Entry(
        home="tombola.resets.pruned:FreezeInitZeroAllReshuffle",
        summary="as many zeros as freeze_init_zero_all has, at random places",
        source=_ZHOU,
    ),
    "freeze_init_zero_all_rev": Entry(
        home="tombola.resets.pruned:FreezeInitZeroAllRev",
        summary="0 what training moved away from 0, survivors too",
        source=_ZHOU,
    ),
}
"""What `--reset-pruned` takes: where the pruned places stand."""
