"""Finds and loads the compiled kernels: the best library that this processor runs, or the one that was asked for.

`pip install` builds one library for each instruction set where a C compiler is at hand; without them everything works
through torch, slower. The environment variable TOMBOLA_NATIVE, read when the kernels are first used, chooses one of
`VARIANTS`, `off` for none, or `auto` (as when it is unset) for the best.
"""

from __future__ import annotations

import ctypes
import functools
import os
from dataclasses import dataclass
from pathlib import Path

from tombola.errors import UsageError, suggest

__all__ = ["ABI", "VARIABLE", "VARIANTS", "Compiled", "absent", "compiled", "load", "runs"]

VARIANTS = ("avx512", "avx2", "generic")
"""What TOMBOLA_NATIVE may force, best first; `generic` runs on every processor of the machine's family."""

VARIABLE = "TOMBOLA_NATIVE"
"""The environment variable that forces a variant."""

ABI = 2
"""What the functions of the libraries take and return, as a number: TOMBOLA_ABI of tombola/native/c/export.h."""

_FOLDER = Path(__file__).parent / "native"
_BUILD = "install Tombola again (`pip install`, or `make install` in a checkout) with a C compiler, gcc 12 or newer"


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """A loaded library of compiled kernels: the name of its variant, and its functions."""

    name: str
    library: ctypes.CDLL


@functools.cache
def compiled() -> Compiled | None:
    """The library to use: what TOMBOLA_NATIVE names, else the best that is built and that this processor runs.

    Read once; later calls give the same answer.

    Returns:
        None where TOMBOLA_NATIVE is `off`, or where it leaves the choice and nothing usable is built; `absent` says
        why.

    Raises:
        UsageError: TOMBOLA_NATIVE names something unknown, or a variant that is not built or that cannot run here.

    >>> compiled() is compiled()
    True
    """
    return _choice()[0]


def absent() -> str | None:
    """Why there are no compiled kernels here and what to do about it, as one sentence; None where there are.

    Raises:
        UsageError: as for `compiled`.

    >>> (absent() is None) == (compiled() is not None)
    True
    """
    return _choice()[1]


@functools.cache
def load(variant: str) -> Compiled:
    """The library of one variant.

    Args:
        variant: one of `VARIANTS`, or `float64`: the generic kernels in double precision, for checks.

    Returns:
        The library, loaded.

    Raises:
        UsageError: the name is unknown, the library is not built or is of another version, or this processor lacks
            its instructions.
    """
    known = (*VARIANTS, "float64")
    if variant not in known:
        raise UsageError(f"there is no compiled variant {variant!r}. {suggest(variant, known)}")
    if not runs(variant):
        raise UsageError(
            f"this processor cannot run the compiled variant {variant!r}; choose another, or leave {VARIABLE} unset"
        )
    return Compiled(name=variant, library=_opened(variant))


def runs(variant: str) -> bool:
    """Whether this processor has the instructions of a variant, built or not.

    Args:
        variant: one of `VARIANTS`, or `float64`.

    Raises:
        UsageError: the generic library, which knows the answer, is not built or is of another version.
    """
    # Only that one may be asked: any function of another may hold an illegal instruction.
    return bool(_opened("generic").tombola_cpu_runs(variant.encode()))


@functools.cache
def _choice() -> tuple[Compiled | None, str | None]:
    """The library and no reason, or no library and the reason."""
    wanted = os.environ.get(VARIABLE, "") or "auto"
    if wanted == "off":
        return None, f"the compiled kernels are switched off ({VARIABLE}=off); unset it to use them"
    if wanted in VARIANTS:
        return load(wanted), None
    if wanted != "auto":
        raise UsageError(f"{VARIABLE} is {wanted!r}. {suggest(wanted, ['auto', *VARIANTS, 'off'])}")
    try:
        best = next((v for v in VARIANTS if _path(v).exists() and runs(v)), "generic")
        return load(best), None
    except UsageError as error:
        return None, str(error)


def _opened(variant: str) -> ctypes.CDLL:
    """The library itself, once it is known to be of these sources; whether this processor runs it is for the caller."""
    path = _path(variant)
    if not path.exists():
        raise UsageError(f"the compiled kernels ({variant}) are not built: there is no {path}; {_BUILD}")
    try:
        library = ctypes.CDLL(str(path))
        abi = library.tombola_abi()
    except (OSError, AttributeError) as error:
        raise UsageError(f"the compiled kernels in {path} cannot be loaded ({error}); {_BUILD}") from None
    if abi != ABI:
        raise UsageError(f"the compiled kernels in {path} are of version {abi}, expected {ABI}; {_BUILD}")
    return library


def _path(variant: str) -> Path:
    return _FOLDER / f"_{variant}.so"
