"""The command line: finds its subcommands through a table of lazy import paths."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from tombola import __version__
from tombola.errors import TombolaError, UsageError, suggest

__all__ = ["COMMANDS", "main"]

COMMANDS: dict[str, tuple[str, str]] = {
    "recipes": ("tombola.commands.recipes", "list the recipes"),
    "run": ("tombola.commands.run", "run a recipe: find tickets, train their controls, report"),
    "ls": ("tombola.commands.ls", "list the experiments in a store"),
    "show": ("tombola.commands.show", "show an experiment, or a recipe (--toml: as a file to edit)"),
    "report": ("tombola.commands.report", "write the HTML page of an experiment"),
    "export": ("tombola.commands.export", "write an experiment's numbers as CSV or JSON"),
    "gc": ("tombola.commands.gc", "remove what no experiment in the store names"),
}
"""name -> (module with `main(arguments) -> exit code`, one line about it)."""


def _help() -> str:
    width = max(map(len, COMMANDS))
    return "\n".join(
        [
            "usage: tombola COMMAND [arguments]",
            "",
            "Finds winning tickets in PyTorch networks, and proves that they win.",
            "",
            *(f"  {name:<{width}}  {summary}" for name, (_, summary) in COMMANDS.items()),
            "",
            "tombola COMMAND --help tells more.  First steps: tombola run digits-lenet",
        ]
    )


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code (0 good, 1 something failed, 2 a mistake in the call, 130 interrupted)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in {"-h", "--help", "help"}:
        print(_help())
        return 0 if given else 2
    if given[0] in {"-V", "--version"}:
        print(f"tombola {__version__}")
        return 0
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        if given[0] not in COMMANDS:
            raise UsageError(f"Unknown command {given[0]!r}. {suggest(given[0], COMMANDS)}")
        code: int = importlib.import_module(COMMANDS[given[0]][0]).main(given[1:])
        sys.stdout.flush()
    except TombolaError as error:
        print(f"tombola: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("tombola: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `tombola ls | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


if __name__ == "__main__":
    sys.exit(main())
