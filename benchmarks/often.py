"""The command line with a list of what was computed; `kill_resume.py` starts it.

    COMPUTED=FILE python -m benchmarks.often run digits-lenet ...

Each answer that is put into the store adds its digest to the file. It happens on import, so that it holds in spawned
workers too: they import the main module of the process that started them.
"""

from __future__ import annotations

import os
import sys
from functools import wraps
from pathlib import Path

from tombola.answers import Answer
from tombola.cli import main
from tombola.requests import Request
from tombola.store import Store

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
