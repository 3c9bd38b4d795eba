"""Which kernels torch may use: float32 is float32, and, on request, the same bits each time."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from tombola.errors import UsageError

__all__ = ["deterministic", "fix_workspace", "kernels"]

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
_REFUSED = re.compile(r"(\S+) does not have a deterministic implementation")


def fix_workspace() -> None:
    """Give cuBLAS the workspace that makes its products repeat, unless somebody has chosen one.

    It is an environment variable, which CUDA reads once, before the first product of a process.
    """
    os.environ.setdefault(_WORKSPACE, ":4096:8")


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Inside, torch uses deterministic kernels alone; what was set before is put back. Without the wish: nothing.

    Raises:
        UsageError: an operation has no deterministic kernel on this device; names it.

    >>> with deterministic(True):
    ...     torch.are_deterministic_algorithms_enabled()
    True
    """
    if not wanted:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    fix_workspace()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    except RuntimeError as error:
        found = _REFUSED.search(str(error))
        if found is None:
            raise
        raise UsageError(
            f"{found[1]} has no deterministic kernel here, and deterministic ones alone were asked for. Leave "
            f"--deterministic out, or use --device cpu."
        ) from error
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


@contextmanager
def kernels(*, repeatable: bool) -> Iterator[None]:
    """Inside, convolutions in float32 are computed in float32, and by deterministic kernels where that is asked for.

    cuDNN would take TF32, with 10 bits of mantissa, unless told not to; products of matrices are float32 anyway.

    Raises:
        UsageError: as for `deterministic`.

    >>> with kernels(repeatable=False):
    ...     torch.backends.cudnn.allow_tf32
    False
    """
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        with deterministic(repeatable):
            yield
    finally:
        torch.backends.cudnn.allow_tf32 = before
