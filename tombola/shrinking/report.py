"""What shrinking gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

__all__ = ["Shrunk"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Shrunk:
    """A smaller network and the map of what went.

    Args:
        model: a copy of the user's model in eval mode, with pruned weights at 0 and superfluous units cut out.
        kept: parameter or buffer that was cut -> dimension -> the indices that stayed, in order (int64).
        gone: weight -> unit (row or filter) that went -> why: "no outputs" (nothing reads it) or "constant" (it is the
            same for every input; its value went into the biases behind it).
        whole: masked weight that structure kept from being cut, wholly or in part -> what held it.
        fallback: why less was cut than the mask allows, empty where nothing was left undone; also of a model that is
            returned whole.
        before: parameters of the model.
        after: parameters of the smaller one.
    """

    model: nn.Module
    kept: Mapping[str, Mapping[int, Tensor]]
    gone: Mapping[str, Mapping[int, str]]
    whole: Mapping[str, str]
    fallback: str
    before: int
    after: int

    @property
    def share(self) -> float:
        """Parameters that are left, of 1."""
        return self.after / self.before if self.before else 1.0

    def __str__(self) -> str:
        """One line a fact.

        >>> print(Shrunk(model=nn.Linear(1, 1), kept={}, gone={}, whole={"a.weight": "used 2 times"}, fallback="",
        ...              before=200, after=150))
        150 of 200 parameters are left (75.0 %).
        a.weight stays whole: used 2 times.
        """
        lines = [f"{self.after:,} of {self.before:,} parameters are left ({self.share:.1%})".replace("%", " %") + "."]
        for name, units in self.gone.items():
            reasons = list(units.values())
            counts = [f"{reasons.count(why)} {why}" for why in sorted(set(reasons))]
            lines.append(f"{name}: units gone: {len(units)} ({', '.join(counts)}).")
        lines += [f"{name} stays whole: {why}." for name, why in self.whole.items()]
        return "\n".join(lines + ([f"Not all was cut: {self.fallback}."] if self.fallback else []))
