"""Where a training takes place."""

from __future__ import annotations

import torch

from tombola.errors import UsageError

__all__ = ["resolve_device"]


def resolve_device(name: str) -> torch.device:
    """The torch device of this name; "auto" is a CUDA device where there is one, else the CPU.

    Raises:
        UsageError: torch does not know the device, or it is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].split(":")[0]
        raise UsageError(f"The device {name!r} cannot be used: {reason}. Use --device cpu.") from error
    return device
