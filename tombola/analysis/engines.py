"""Which engines trained an experiment, and why it was not the native one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from tombola.answers import Trained

__all__ = ["described", "engines_of"]

_NAMED = ("engine", "variant", "step", "not_native", "not_captured")  # of a training's provenance


def engines_of(answers: Iterable[Trained]) -> list[dict[str, Any]]:
    """The engines of some trainings, the one of most trainings first.

    Returns:
        [{"engine": "native", "variant": "avx512", "fits": 12}, {"engine": "torch", "not_native": REASON, "fits": 3}];
        what a training does not say is left out.
    """
    found = Counter(tuple((n, str(a.provenance[n])) for n in _NAMED if n in a.provenance) for a in answers)
    return [{**dict(named), "fits": fits} for named, fits in found.most_common()]


def described(engines: Iterable[Mapping[str, Any]]) -> str:
    """The engines in one line.

    >>> described([{"engine": "native", "variant": "avx2", "fits": 2}, {"engine": "torch", "fits": 1}])
    'native avx2 (2 fits), torch (1 fit)'
    """
    parts = []
    for one in engines:
        name = " ".join(str(one[key]) for key in ("engine", "variant", "step") if key in one) or "unknown"
        reasons = [(key, key.replace("_", " ")) for key in ("not_native", "not_captured") if key in one]
        because = "".join(f"; {said}: {one[key]}" for key, said in reasons)
        parts.append(f"{name} ({one['fits']:,} fit{'s' * (one['fits'] != 1)}{because})")
    return ", ".join(parts) or "none yet"
