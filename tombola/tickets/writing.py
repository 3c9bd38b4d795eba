"""Writing a ticket file.

The file is safetensors, made of byte streams:

    header     notes as JSON under `tombola`: sha256 of the file, format, version, tensors (name, dtype, shape, kept),
               start (empty, or a seed with the digest of what it makes), history, metadata, versions
    mask/NAME      where the weights of a tensor are: bitmap or 8-bit gaps, zlib
    start/NAME     values of the start weights that exist, in row-major order, little-endian, zlib
    trained/NAME   the same after training
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tombola import __version__
from tombola.errors import TicketError
from tombola.masks import Mask
from tombola.store import files
from tombola.tickets.container import seal
from tombola.tickets.entries import FORMAT, VERSION, Entry, Start, history_note
from tombola.tickets.level import Level
from tombola.tickets.plain import printable, shown
from tombola.tickets.seed import Build, NamedModel, digest_bits, made
from tombola.tickets.streams import DTYPES, mask_stream, values_stream
from tombola.training.state import State

__all__ = ["write_ticket"]


def write_ticket(
    path: Path,
    *,
    mask: Mask,
    weights: State,
    trained: State | None,
    history: tuple[Level, ...],
    metadata: Mapping[str, Any],
    seed: int | None,
    build: Build | None,
) -> None:
    """Write a ticket that fits together; see `Ticket.save`.

    Raises:
        TicketError: the seed does not make the weights, something cannot be kept in a file, or it cannot be written.
    """
    start = Start() if seed is None and build is None else _seeded_start(mask, weights, seed, build)
    entries, streams = _packed(mask, weights if start.seed is None else None, trained, weights)
    notes = {
        "format": FORMAT,
        "version": VERSION,
        "tensors": [entry.note() for entry in entries],
        "start": start.note(),
        **({"trained": True} if trained is not None else {}),
        **({"history": history_note(history, max(1, mask.total))} if history else {}),
        "metadata": metadata,
        "versions": {"tombola": __version__, "torch": torch.__version__},
    }
    try:
        data = seal(notes, streams)
    except ValueError as error:
        raise TicketError(f"The ticket cannot be written to {path}: {error}; keep less in them.") from error
    try:
        real = path.resolve()  # behind a link
        if real.exists() and not real.is_file():
            raise TicketError(f"{path} is no file and cannot become one; name another.")
        if not real.parent.is_dir():
            raise TicketError(f"The folder of {path} does not exist; make it first.")
        files.replace(real, data)
    except TicketError:
        raise
    except (OSError, ValueError) as error:  # the latter for a name that no system takes
        reason = getattr(error, "strerror", None) or error
        raise TicketError(f"{printable(str(path))} cannot be written: {reason}; name a file elsewhere.") from error


def _seeded_start(mask: Mask, weights: State, seed: int | None, build: Build | None) -> Start:
    if type(seed) is not int or not 0 <= seed < 1 << 63 or build is None:
        raise TicketError(
            f"seed is {shown(seed)} and build {'missing' if build is None else 'given'}; a seed in place of the start "
            f"weights needs both: a whole number from 0 to 2**63 - 1, and the function that makes the model from it."
        )
    again = made(build, seed, mask)
    if digest_bits(again) != digest_bits(weights):
        wrong = [name for name in {**weights, **again} if not _equal(again, weights, name)]
        raise TicketError(
            f"build({seed}) does not make the ticket's start weights ({shown(wrong[0])} differs); give the seed and "
            f"function they were made with, or save the weights themselves (no seed)."
        )
    module, name = getattr(build, "__module__", ""), getattr(build, "__qualname__", type(build).__name__)
    return Start(
        seed=seed,
        digest=digest_bits(weights),
        build=None if isinstance(build, NamedModel) else f"{module}:{name}",
        model=build.note() if isinstance(build, NamedModel) else None,
    )


def _equal(a: State, b: State, name: str) -> bool:
    return name in a and name in b and digest_bits({name: a[name]}) == digest_bits({name: b[name]})


def _packed(
    mask: Mask, start: State | None, trained: State | None, forms: State
) -> tuple[list[Entry], dict[str, bytes]]:
    """The list of tensors, and the byte streams; a tensor that repeats an earlier one (tied) is not kept twice."""
    entries, streams, counts = [], dict[str, bytes](), mask.kept
    parts = {part: state for part, state in (("start", start), ("trained", trained)) if state is not None}
    seen: dict[tuple[str, str], str] = {}
    for name, value in forms.items():
        dtype = str(value.dtype).removeprefix("torch.")
        if dtype not in DTYPES:
            raise TicketError(f"{shown(name)} has dtype {dtype}; a ticket file holds {', '.join(DTYPES)}.")
        entry, kept = Entry(name=name, dtype=dtype, shape=tuple(value.shape)), mask.get(name)
        if kept is not None:
            coding, streams[f"mask/{name}"] = mask_stream(kept)
            entry = replace(entry, kept=counts[name], coding=coding)
        twins = {}
        for part, state in parts.items():
            bits = digest_bits({"": state[name]})
            first = seen.setdefault((part, bits), name)
            if first != name:
                twins[part] = first
            else:
                streams[f"{part}/{name}"] = values_stream(state[name] if kept is None else state[name][kept])
        entries.append(replace(entry, twins=twins))
    return entries, streams
