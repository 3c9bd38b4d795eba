"""The command line with a checkpoint at every turn, and a list of what was computed; `kill_resume.py` starts it.

    COMPUTED=FILE python -m benchmarks.often run digits-lenet ...

A real training writes a checkpoint every 30 seconds, which a small one never reaches. Each answer that is put into the
store adds its digest to the file. All of it happens on import, so that it holds in spawned workers too: they import the
main module of the process that started them.
"""

from __future__ import annotations

import os
import sys
from functools import wraps
from pathlib import Path

from tombola.cli import main
from tombola.requests import Answer, Request
from tombola.store import Store
from tombola.training.loop import train

SECONDS = 0.02

assert train.__kwdefaults__ is not None
train.__kwdefaults__["checkpoint_seconds"] = SECONDS
_put = Store.put


@wraps(_put)
def put(self: Store, request: str, asked: Request, answer: Answer) -> None:
    """As `Store.put`, and noted."""
    _put(self, request, asked, answer)
    with Path(os.environ["COMPUTED"]).open("a") as file:
        file.write(f"{request}\n")


Store.put = put  # type: ignore[method-assign]

if __name__ == "__main__":
    sys.exit(main())
