"""Numbers as people read them: the columns of the table, and the headline sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tombola.report.arms import arm_words
from tombola.report.summary import DENSE_ARM, LevelRow, dense, has_accuracy
from tombola.statistics import Interval

__all__ = ["COLUMNS", "Column", "accuracy", "diverged", "headline", "loss", "per_cent", "steps", "unbroken"]


def per_cent(fraction: float) -> str:
    """A density in per cent, as short as the field writes it.

    >>> [per_cent(x) for x in (1.0, 0.5128, 0.0695, 0.0047)]
    ['100', '51.3', '7.0', '0.47']
    """
    value = 100 * fraction
    if value >= 99.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 0.95 else f"{value:.2g}"


def accuracy(value: Interval | None) -> str:
    """An accuracy given as a fraction, in per cent without the sign: mean ± half-width, '-' for none.

    >>> accuracy(Interval(mean=0.98, low=0.979, high=0.981, n=5))
    '98.00 ± 0.10'
    """
    return _plus_minus(value, lambda number: f"{100 * number:.2f}")


def steps(value: Interval | None) -> str:
    """A number of optimizer steps: mean ± half-width, '-' for none."""
    return _plus_minus(value, lambda number: f"{number:,.0f}")


def loss(value: Interval | None) -> str:
    """A loss: mean ± half-width with as many decimals as the mean needs, '-' for none.

    >>> loss(Interval(mean=0.1234567, low=0.1, high=0.1469134, n=5))
    '0.1235 ± 0.0235'
    """
    size = abs(value.mean) if value else 0.0
    decimals = 4 if size < 10 else 2 if size < 1000 else 0
    tiny = 0 < size < 0.001
    return _plus_minus(value, lambda number: f"{number:.2e}" if tiny else f"{number:,.{decimals}f}")


def diverged(row: LevelRow) -> str:
    """'diverged 2/5' (fits that diverged / all fits), or nothing where none did."""
    return f"diverged {row.diverged}/{row.fits}" if row.diverged else ""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column: short name, title, whether it holds numbers, and the text of its cell."""

    name: str
    title: str
    number: bool
    cell: Callable[[LevelRow], str]


def _effective(row: LevelRow) -> str:
    return "-" if row.effective is None else f"{row.effective:,.0f}"


COLUMNS: tuple[Column, ...] = (
    Column(name="level", title="level", number=True, cell=lambda row: str(row.level)),
    Column(name="density", title="weights %", number=True, cell=lambda row: _density(row.density)),
    Column(name="kept", title="weights kept", number=True, cell=lambda row: f"{row.kept:,.0f}"),
    Column(name="effective", title="on a path", number=True, cell=_effective),
    Column(name="arm", title="arm", number=False, cell=lambda row: arm_words(row.arm, row.level)),
    Column(name="early_stop", title="early-stop step", number=True, cell=lambda row: steps(row.early_stop)),
    Column(
        name="accuracy_at_early_stop",
        title="test accuracy % at early stop",
        number=True,
        cell=lambda row: accuracy(row.accuracy_at_early_stop),
    ),
    Column(
        name="accuracy_end",
        title="test accuracy % at the end",
        number=True,
        cell=lambda row: accuracy(row.accuracy_end),
    ),
    Column(
        name="validation_loss_min",
        title="lowest validation loss",
        number=True,
        cell=lambda row: loss(row.validation_loss_min),
    ),
    Column(name="replicates", title="replicates", number=True, cell=lambda row: str(row.replicates)),
)


def headline(rows: Sequence[LevelRow]) -> str:
    """The plain facts at the sparsest level of the ticket in one sentence: each arm there, and the dense network.

    >>> headline([])
    'There are no results yet.'
    """
    if not rows:
        return "There are no results yet."
    reference = dense(rows)
    pruned = [row for row in rows if row is not reference]
    level = max((row.level for row in pruned if row.arm == DENSE_ARM), default=max(row.level for row in rows))
    here = [row for row in pruned if row.level == level]
    by_accuracy = has_accuracy(rows)
    ordered = sorted((row for row in (*here, reference) if row is not None), key=lambda row: row.arm != DENSE_ARM)
    parts = [_fact(row, by_accuracy) for row in ordered]
    measure = "test accuracy at early stop" if by_accuracy else "lowest validation loss"
    counts = sorted({row.replicates for row in here} or {rows[0].replicates})
    spread = " to ".join(str(count) for count in dict.fromkeys((counts[0], counts[-1])))
    runs = "one replicate" if counts == [1] else f"mean ± half of the 95 % interval, {spread} replicates"
    size = f"At {per_cent(here[0].density)} % of the weights (level {level})" if here else "Before any pruning"
    sentence = f"{size}, {measure} ({runs}): {'; '.join(parts)}."
    return unbroken(sentence)


def unbroken(text: str) -> str:
    """The same text without places where "97.9 ± 0.2 %" may break into two lines, which makes it hard to read."""
    return text.replace(" ± ", "\u00a0±\u00a0").replace(" %", "\u00a0%")


def _fact(row: LevelRow, by_accuracy: bool) -> str:
    value = row.accuracy_at_early_stop if by_accuracy else row.validation_loss_min
    note = f" ({diverged(row)})" if row.diverged else ""
    if value is None:
        return f"{arm_words(row.arm, row.level)} {diverged(row) or 'without a result'}"
    number = f"{accuracy(value)} %" if by_accuracy else loss(value)
    return f"{arm_words(row.arm, row.level)} {number}{note}"


def _density(fraction: float) -> str:
    value = 100 * fraction
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def _plus_minus(value: Interval | None, write: Callable[[float], str]) -> str:
    if value is None:
        return "-"
    half = value.half_width
    return write(value.mean) if half is None else f"{write(value.mean)} ± {write(half)}"
