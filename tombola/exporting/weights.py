"""Dense weights for a plain model."""

from __future__ import annotations

import os

from torch import Tensor, nn

from tombola.errors import UsageError
from tombola.exporting.report import Exported
from tombola.exporting.still import copied, size_of
from tombola.exporting.writing import require_place, write
from tombola.shrinking.checking import first_line

__all__ = ["export_weights"]


def export_weights(model: nn.Module, path: str | os.PathLike[str]) -> Exported:
    """Write the model's `state_dict()` as safetensors, dense, zeros included.

    A plain model of the same class takes it: `model.load_state_dict(safetensors.torch.load_file(path))`. Tied tensors
    are written under each of their names. The state of a shrunk network fits that network.

    Args:
        model: stays as it is; also a compiled or data-parallel one, whose prefix is left out of the names.
        path: its folder must exist; a file of that name is replaced.

    Raises:
        UsageError: the state holds something else than tensors with values. No file is written then.
        StoreError: the disk is full, ...

    >>> import tempfile
    >>> from safetensors.torch import load_file
    >>> layer, other = nn.Linear(3, 2), nn.Linear(3, 2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     other.load_state_dict(load_file(export_weights(layer, f"{folder}/net.safetensors").path))
    <All keys matched successfully>
    >>> bool((layer.weight == other.weight).all())
    True
    """
    from safetensors.torch import save

    place = require_place(path)
    own = copied(model)
    state: dict[str, Tensor] = {}
    for name, value in own.state_dict().items():
        if not isinstance(value, Tensor) or value.is_quantized:
            kind = "quantized tensor" if isinstance(value, Tensor) else type(value).__name__
            raise UsageError(f"The model's state {name!r} is a {kind}; only dense tensors can be exported.")
        state[name] = value.detach().to_dense().contiguous().clone()
    try:
        data = save(state, metadata={"format": "pt"})
    except Exception as error:  # a dtype that the format does not have
        raise UsageError(f"The state of {type(own).__name__} cannot be exported: {first_line(error)}.") from error
    write(place, data)
    return Exported(path=place, form="safetensors", size=len(data), parameters=size_of(own))
