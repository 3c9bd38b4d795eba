"""Reading a ticket file: all of it is checked, values are unpacked when they are asked for, nothing in it is run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tombola.errors import TicketError
from tombola.masks import Mask
from tombola.tickets.container import AT_MOST, LONGEST_HEADER, sound, unseal
from tombola.tickets.entries import FORMAT, VERSION, Entry, Start, entries_from, history_from, start_from
from tombola.tickets.level import Level
from tombola.tickets.plain import plain, printable, shown
from tombola.tickets.seed import Build, NamedModel, digest_bits, made
from tombola.tickets.streams import DTYPES, mask_from_stream, values_from_stream
from tombola.training.state import State

__all__ = ["Sealed", "checked_values", "read_ticket", "start_weights", "trained_weights"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Sealed:
    """A ticket file that was read and found sound; its values are not unpacked yet.

    Args:
        size: of the file, in bytes.
        streams: the bytes of values, by name.
        versions: what wrote it.
    """

    path: Path
    size: int
    mask: Mask
    entries: tuple[Entry, ...]
    start: Start
    trained: bool
    history: tuple[Level, ...]
    metadata: Mapping[str, Any]
    versions: Mapping[str, Any]
    streams: Mapping[str, bytes]

    def named(self) -> contextlib.AbstractContextManager[None]:
        """What goes wrong inside is said of this file."""
        return _named(self.path)


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    place = printable(str(path))
    try:
        yield
    except TicketError as error:
        raise TicketError(f"{place} cannot be read as a ticket: {error}") from error
    except (
        ValueError,
        TypeError,
        KeyError,
        ArithmeticError,
    ) as error:  # whatever a file that someone made by hand leads to
        reason = printable(str(error))
        raise TicketError(f"{place} is damaged: {reason}. Copy it again from where it came from.") from error


def read_ticket(path: Path, *, at_most: int = AT_MOST) -> Sealed:
    """Read and check a ticket file; values are left packed.

    Raises:
        TicketError: what is wrong with it.
    """
    data = _bytes(path, at_most)
    with _named(path):
        try:
            notes, streams = unseal(data)
        except ValueError as error:
            raise TicketError(
                f"{error}. It is truncated, altered, or something else; copy it again, or write one with Ticket.save."
            ) from error
        if notes.get("format") != FORMAT:
            raise TicketError("it is another kind of file; write a ticket with Ticket.save or tombola ticket save.")
        if notes.get("version") != VERSION:
            other = shown(notes.get("version"))
            raise TicketError(
                f"it has version {other}, and this Tombola reads {VERSION}; install the one that wrote it."
            )
        if not sound(data, notes):
            raise TicketError("its checksum does not fit: it was altered. Copy it again from where it came from.")
        return _sealed(path, len(data), notes, streams, at_most)


def _bytes(path: Path, at_most: int) -> bytes:
    place = printable(str(path))
    try:
        if not path.exists():
            raise TicketError(f"There is no ticket file {place}; tombola ticket save or Ticket.save writes one.")
        if not path.is_file():
            raise TicketError(f"{place} is no file; name a ticket file.")
        size = path.stat().st_size
        if size > 3 * at_most + LONGEST_HEADER:
            raise TicketError(
                f"{place} has {size:,} bytes, more than a ticket of {at_most:,} bytes of weights can have; "
                f"if you trust it, allow more: Ticket.load(path, at_most={size}), tombola ticket ... --at-most {size}."
            )
        return path.read_bytes()
    except OSError as error:
        raise TicketError(f"{place} cannot be read: {error.strerror or error}; check its name and rights.") from error


def _sealed(path: Path, size: int, notes: Mapping[str, Any], streams: Mapping[str, bytes], at_most: int) -> Sealed:
    entries, start = entries_from(notes.get("tensors"), at_most), start_from(notes.get("start"))
    trained = notes.get("trained", False)
    metadata, versions = plain(notes.get("metadata"), "metadata"), plain(notes.get("versions"), "versions")
    if not (isinstance(trained, bool) and isinstance(metadata, dict) and isinstance(versions, dict)):
        raise ValueError("its metadata are no mapping")
    parts = [part for part, there in (("start", start.seed is None), ("trained", trained)) if there]
    expected = {f"mask/{entry.name}" for entry in entries if entry.kept is not None}
    expected |= {f"{part}/{entry.name}" for entry in entries for part in parts if part not in entry.twins}
    if expected != streams.keys():
        raise ValueError(f"it has no stream {shown(min(expected ^ streams.keys()))}, or one too many")
    if any(not entry.twins.keys() <= set(parts) for entry in entries):
        raise ValueError("it lists a tensor that stands for something unknown")
    masks = {
        e.name: mask_from_stream(str(e.coding), streams[f"mask/{e.name}"], e.shape, e.kept)
        for e in entries
        if e.kept is not None
    }
    mask = Mask(masks)
    return Sealed(
        path=path,
        size=size,
        mask=mask,
        entries=entries,
        start=start,
        trained=trained,
        history=history_from(notes["history"], max(1, mask.total)) if "history" in notes else (),
        metadata=metadata,
        versions=versions,
        streams=streams,
    )


def start_weights(sealed: Sealed, build: Build | None = None) -> State:
    """The start weights, unpacked, or made again from their seed and compared with what it made then.

    Raises:
        TicketError: damaged values, no way to build the model, or a seed that makes other weights here.
    """
    start = sealed.start
    if start.seed is None:
        return _unpacked(sealed, "start")
    with sealed.named():
        weights = sum(entry.count for entry in sealed.entries)
        if build is None and start.model is None:
            raise TicketError(
                f"it holds the seed {start.seed} of its start weights, so the function that makes them must be given: "
                f"Ticket.load(path, build=...); it was saved with {shown(start.build)}."
            )
        maker = build or NamedModel.from_note(start.model or {}, weights, len(sealed.entries))
        found = made(maker, start.seed, sealed.mask)
        for entry in sealed.entries:
            value = found.get(entry.name)
            got = "nothing" if value is None else f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
            if got != f"{entry.dtype} {entry.shape}":
                raise TicketError(
                    f"build({start.seed}) makes another model: for {shown(entry.name)} expected {entry.dtype} "
                    f"{entry.shape}, got {got}; give the one it was saved with ({_maker(start)})."
                )
        if digest_bits(found) != start.digest:
            then = printable(str(sealed.versions.get("torch")), 40)
            raise TicketError(
                f"the seed {start.seed} makes other start weights here than when it was saved (torch {then} then, "
                f"{torch.__version__} now; made by {_maker(start)}); use those, or a file that holds the weights "
                f"themselves."
            )
        return found


def checked_values(sealed: Sealed) -> None:
    """Check that all values in the file can be unpacked, without making anything from a seed.

    Raises:
        TicketError: damaged values.
    """
    if sealed.start.seed is None:
        _unpacked(sealed, "start")
    trained_weights(sealed)


def _maker(start: Start) -> str:
    return "a named network" if start.build is None else shown(start.build)


def trained_weights(sealed: Sealed) -> State | None:
    """The trained weights, unpacked; None where there are none.

    Raises:
        TicketError: damaged values.
    """
    return _unpacked(sealed, "trained") if sealed.trained else None


def _unpacked(sealed: Sealed, part: str) -> State:
    found: State = {}
    with sealed.named():
        for entry in sealed.entries:
            dtype = DTYPES[entry.dtype]
            if part in entry.twins:
                found[entry.name] = found[entry.twins[part]].clone()
                continue
            values = values_from_stream(sealed.streams[f"{part}/{entry.name}"], dtype, entry.stored)
            if entry.kept is None:
                found[entry.name] = values.reshape(entry.shape)
            else:
                found[entry.name] = torch.zeros(entry.shape, dtype=dtype)
                found[entry.name][sealed.mask[entry.name]] = values
    return found
