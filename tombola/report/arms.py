"""How each arm is named, lettered and coloured, the same in every picture."""

from __future__ import annotations

import string
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Look", "arm_words", "looks", "printable"]


@dataclass(frozen=True, kw_only=True)
class Look:
    """The appearance of one arm: plain words, one letter, a colour as `#rrggbb`, the name of one that the terminal
    defines (`ansi`), and a matplotlib marker."""

    words: str
    letter: str
    colour: str
    ansi: str
    marker: str


# Colours keep a contrast of 3 : 1 on white and on near-black, and differ for colour-blind readers
# (after Okabe and Ito); markers and letters tell the arms apart without any colour.
_KNOWN = {
    "ticket": Look(words="ticket", letter="T", colour="#1b7fc4", ansi="bright_blue", marker="o"),
    "reinit": Look(words="random re-initialisation", letter="R", colour="#d55e00", ansi="red", marker="s"),
    "shuffled": Look(words="shuffled mask", letter="S", colour="#00936b", ansi="green", marker="^"),
    "reinit-rewound": Look(
        words="re-initialised and rewound", letter="W", colour="#c061a0", ansi="magenta", marker="D"
    ),
    "gradual": Look(words="pruned while training", letter="G", colour="#3c8c98", ansi="bright_green", marker="p"),
    "small-dense": Look(words="small dense network", letter="D", colour="#9a7a1e", ansi="cyan", marker="v"),
    "untrained": Look(words="mask on untrained weights", letter="U", colour="#6f7378", ansi="white", marker="P"),
    "inverted": Look(words="mask of inverted scores", letter="I", colour="#8569d1", ansi="bright_magenta", marker="X"),
    "random-labels": Look(
        words="mask scored on random labels", letter="L", colour="#b5533c", ansi="yellow", marker="<"
    ),
    "random-inputs": Look(
        words="mask scored on random inputs", letter="N", colour="#5b8c2a", ansi="bright_cyan", marker=">"
    ),
}
_SPARE_COLOURS = ("#8569d1", "#b5533c", "#5b8c2a", "#3c8c98", "#a06a6a")
_SPARE_ANSI = ("yellow", "bright_red", "bright_green", "bright_magenta", "bright_cyan")
_SPARE_MARKERS = ("P", "X", "<", ">", "p", "h")


def looks(arms: Iterable[str]) -> dict[str, Look]:
    """The look of each arm; one that is not known gets letters, colours and markers which are still free.

    >>> looks(["ticket", "random-tickets"])["random-tickets"].letter
    'R'
    """
    names = list(dict.fromkeys(arms))
    free = [
        letter for letter in string.ascii_uppercase if letter not in {_KNOWN[n].letter for n in names if n in _KNOWN}
    ]
    found: dict[str, Look] = {}
    for name in names:
        if name in _KNOWN:
            found[name] = _KNOWN[name]
            continue
        spare = sum(other not in _KNOWN for other in found)
        letter = next((c for c in name.upper() if c in free), free[0] if free else "?")
        free = [other for other in free if other != letter]
        found[name] = Look(
            words=arm_words(name),
            letter=letter,
            colour=_SPARE_COLOURS[spare % len(_SPARE_COLOURS)],
            ansi=_SPARE_ANSI[spare % len(_SPARE_ANSI)],
            marker=_SPARE_MARKERS[spare % len(_SPARE_MARKERS)],
        )
    return found


def arm_words(arm: str, level: int | None = None) -> str:
    """An arm in plain words; level 0 of the ticket is the dense network.

    >>> arm_words("ticket", 0), arm_words("reinit"), arm_words("random-tickets")
    ('dense network', 'random re-initialisation', 'random tickets')
    """
    if arm == "ticket" and level == 0:
        return "dense network"
    return _KNOWN[arm].words if arm in _KNOWN else printable(arm.replace("-", " "))


def printable(text: str) -> str:
    """A text that cannot steer a terminal: what is not printable becomes '?'.

    >>> printable("a\\x1b[2Jb")
    'a?[2Jb'
    """
    return "".join(character if character.isprintable() else "?" for character in text)
