"""Notes and named byte streams as one safetensors file with a checksum over every byte of it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn

__all__ = ["AT_MOST", "LONGEST_HEADER", "seal", "sound", "unseal"]

AT_MOST = 1 << 32
"""Bytes that the weights of a ticket file may fill when unpacked, unless the caller allows more."""

LONGEST_HEADER = 8 << 20
"""Bytes of a header, names and metadata with it."""

_ZEROS = "0" * 64


def seal(notes: Mapping[str, Any], streams: Mapping[str, bytes]) -> bytes:
    """The bytes of a file.

    The notes stand as JSON in the header; first among them `sha256`: of the whole file, with zeros in its own place.

    Raises:
        ValueError: the notes are longer than any reader would take.
    """
    import numpy as np
    from safetensors.numpy import save

    text = json.dumps({"sha256": _ZEROS, **notes}, allow_nan=False, separators=(",", ":"))
    arrays = {name: np.frombuffer(data, np.uint8) for name, data in streams.items()}
    data = save(arrays, {"tombola": text})
    length = int.from_bytes(data[:8], "little")
    if length > LONGEST_HEADER:
        raise ValueError(f"metadata, history and names take {length:,} bytes; at most {LONGEST_HEADER:,} can be kept")
    return data.replace(_ZEROS.encode(), hashlib.sha256(data).hexdigest().encode(), 1)


def unseal(data: bytes) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Notes and streams of a file; `sound` looks at the checksum.

    Raises:
        ValueError: these are not the bytes of a whole file.
    """
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > LONGEST_HEADER or 8 + length > len(data):
        raise ValueError("it is no safetensors file, or a cut one")
    header = _json(data[8 : 8 + length])
    if not isinstance(header, dict) or not isinstance(header.get("__metadata__"), dict):
        raise ValueError("it is a safetensors file without notes")
    text = header.pop("__metadata__").get("tombola")
    notes = _json(text.encode("utf-8", "surrogatepass")) if isinstance(text, str) else None
    if not isinstance(notes, dict):
        raise ValueError("it is a safetensors file without Tombola's notes")
    return notes, _streams(header, data[8 + length :])


def sound(data: bytes, notes: Mapping[str, Any]) -> bool:
    """Whether the checksum in the notes is that of the file."""
    claimed = notes.get("sha256")
    if not isinstance(claimed, str) or not re.fullmatch("[0-9a-f]{64}", claimed):
        return False
    return hashlib.sha256(data.replace(claimed.encode(), _ZEROS.encode(), 1)).hexdigest() == claimed


def _streams(header: Mapping[str, Any], body: bytes) -> dict[str, bytes]:
    """Name -> bytes; they fill the body without a gap or an overlap."""
    found, spans = {}, []
    for name, entry in header.items():
        if not isinstance(entry, dict) or entry.get("dtype") != "U8":
            raise ValueError("its header names something that is no byte stream")
        begin, end = entry.get("data_offsets", (0, -1))
        if type(begin) is not int or type(end) is not int or entry.get("shape") != [end - begin]:
            raise ValueError("its header has a stream of unknown length")
        spans.append((begin, end))
        found[name] = body[max(begin, 0) : max(end, 0)]
    place = 0
    for begin, end in sorted(spans):
        if begin != place or end < begin:
            raise ValueError("its streams do not follow each other")
        place = end
    if place != len(body):
        raise ValueError(f"it holds {len(body):,} bytes where its header says {place:,}")
    return found


def _json(text: bytes) -> Any:
    try:
        return json.loads(text.decode("utf-8", "surrogatepass"), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ValueError("its header is not readable as JSON") from error


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)
