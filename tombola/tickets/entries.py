"""What a ticket file says about itself, checked before anything is unpacked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from tombola.errors import TicketError
from tombola.tickets.level import Level
from tombola.tickets.plain import plain, shown
from tombola.tickets.streams import DTYPES

__all__ = ["FORMAT", "VERSION", "Entry", "Start", "entries_from", "history_from", "history_note", "start_from"]

FORMAT, VERSION = "tombola-ticket", 1
_WHOLE = 1 << 63


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One tensor of the model's state.

    Args:
        kept: weights that the mask keeps; None: it has no mask.
        coding: of the mask.
        twins: "start" or "trained" -> an earlier tensor of the same form and bits, whose values stand for these too.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    kept: int | None = None
    coding: str | None = None
    twins: Mapping[str, str] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Its numbers, pruned or not."""
        return math.prod(self.shape)

    @property
    def stored(self) -> int:
        """Its numbers that are not pruned."""
        return self.count if self.kept is None else self.kept

    def note(self) -> list[Any]:
        """What the file keeps of it: name, dtype, shape, and for a mask kept and coding, for twins those."""
        row = [self.name, self.dtype, list(self.shape), self.kept, self.coding, dict(self.twins)]
        return row if self.twins else row[:3] if self.kept is None else row[:5]


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """Where the start weights are: in the file, or made by `build(seed)`.

    Args:
        seed: None: they are in the file.
        digest: of the weights that the seed made (`seed.digest_bits`).
        build: what made them, for people to read.
        model: what `seed.NamedModel.note` gave; None: the caller must say how to build it.
    """

    seed: int | None = None
    digest: str | None = None
    build: str | None = None
    model: Mapping[str, Any] | None = None

    def note(self) -> dict[str, Any]:
        """What the file keeps of it."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def entries_from(notes: object, at_most: int) -> tuple[Entry, ...]:
    """The tensors that the notes list.

    Raises:
        ValueError: the list is not one that `Entry.note` gave.
        TicketError: they would fill more than `at_most` bytes.
    """
    if not isinstance(notes, list) or not notes:
        raise ValueError("it lists no tensors")
    found: dict[str, Entry] = {}
    for note in notes:
        entry = _entry(note)
        if entry.name in found:
            raise ValueError(f"it lists {shown(entry.name)} twice")
        for twin in entry.twins.values():
            other = found.get(twin)
            if other is None or (other.dtype, other.shape) != (entry.dtype, entry.shape):
                raise ValueError(f"{shown(entry.name)} stands for a tensor of another form")
        found[entry.name] = entry
    size = sum(max(1, entry.count) * DTYPES[entry.dtype].itemsize for entry in found.values())
    if size > at_most:
        raise TicketError(
            f"its weights would fill {size:,} bytes, and at most {at_most:,} are allowed; "
            f"if you trust it, allow more: Ticket.load(path, at_most={size}), tombola ticket ... --at-most {size}"
        )
    if not any(entry.kept is not None for entry in found.values()):
        raise ValueError("it has no mask")
    return tuple(found.values())


def _entry(note: object) -> Entry:
    if not isinstance(note, list) or not 3 <= len(note) <= 6:
        raise ValueError("it lists something that is no tensor")
    absent: list[Any] = [None, None, {}]
    row: list[Any] = note + absent[len(note) - 3 :]
    name, dtype, shape, kept, coding, twins = row
    if not isinstance(shape, list) or len(shape) > 16 or not all(type(n) is int and 0 <= n < _WHOLE for n in shape):
        raise ValueError("it lists a tensor without a shape")
    if not isinstance(name, str) or not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError("it lists a tensor without a name, or of an unknown dtype")
    if (type(kept), type(coding)) not in {(type(None), type(None)), (int, str)}:
        raise ValueError("it lists a mask without its count or coding")
    if not isinstance(twins, dict) or not twins.keys() <= {"start", "trained"}:
        raise ValueError("it lists a tensor that stands for something unknown")
    if not all(isinstance(twin, str) for twin in twins.values()):
        raise ValueError("it lists a tensor that stands for something unknown")
    # A dimension of 0 must not hide the others.
    if math.prod(max(1, n) for n in shape) >= _WHOLE or not (kept is None or 0 <= kept <= math.prod(shape)):
        raise ValueError("it lists a tensor of an impossible size")
    return Entry(name=name, dtype=dtype, shape=tuple(shape), kept=kept, coding=coding, twins=twins)


def start_from(note: object) -> Start:
    """Where the notes say that the start weights are. Raises `ValueError`."""
    if not isinstance(note, dict) or not note.keys() <= {f.name for f in fields(Start)}:
        raise ValueError("it does not say where the start weights are")
    start = Start(**note)
    texts = (start.digest, start.build)
    if start.seed is None:
        if note:
            raise ValueError("it has start weights of two kinds")
    elif type(start.seed) is not int or not isinstance(start.digest, str):
        raise ValueError("its seed is no number, or has no digest")
    if not all(text is None or isinstance(text, str) for text in texts):
        raise ValueError("it does not say what made the start weights")
    if not (start.model is None or isinstance(start.model, dict)):
        raise ValueError("it names no model")
    return start


def history_note(history: tuple[Level, ...], total: int) -> dict[str, Any]:
    """The trainings as one list a field, or its value alone where all are equal.

    Densities are left out where they are kept / total, as `Mask.density` makes them. A metric that is not finite stands
    as text, for JSON has no number for it.
    """
    columns = {f.name: [getattr(level, f.name) for level in history] for f in fields(Level)}
    columns["metric"] = [m if m is None or math.isfinite(m) else str(float(m)) for m in columns["metric"]]
    if columns["density"] == [kept / total for kept in columns["kept"]]:
        del columns["density"]
    short = {name: c[0] if name != "level" and _constant(c) else c for name, c in columns.items()}
    return dict(plain(short, "history"))


def _constant(column: list[Any]) -> bool:
    return bool(column) and all(type(value) is type(column[0]) and value == column[0] for value in column)


def history_from(note: object, total: int) -> tuple[Level, ...]:
    """What `history_note` gave. Raises `ValueError`."""
    names = [f.name for f in fields(Level)]
    if not isinstance(note, dict) or not isinstance(note.get("level"), list):
        raise ValueError("its history is not readable")
    count = len(note["level"])
    columns = {name: column if isinstance(column, list) else [column] * count for name, column in note.items()}
    if "density" not in columns:
        columns["density"] = [kept / total if type(kept) is int else kept for kept in columns.get("kept", ())]
    if columns.keys() != set(names) or any(len(column) != count for column in columns.values()):
        raise ValueError("its history is not readable")
    columns["metric"] = [_metric(value) for value in columns["metric"]]
    return tuple(Level(**{name: columns[name][row] for name in names}) for row in range(count))


def _metric(value: object) -> object:
    return float(value) if isinstance(value, str) and value in {"nan", "inf", "-inf"} else value
