"""The command line: finds its subcommands through a table of lazy import paths."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import textwrap
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

from tombola import __version__
from tombola.errors import TombolaError, UsageError, suggest

__all__ = ["COMMANDS", "main"]

COMMANDS: dict[str, tuple[str, str]] = {
    "recipes": ("tombola.commands.recipes", "list the recipes"),
    "list": ("tombola.commands.list", "list criteria, allocations, schedules, ... that a recipe can name"),
    "run": ("tombola.commands.run", "run a recipe: find tickets, train their controls, report"),
    "ls": ("tombola.commands.ls", "list the experiments in a store"),
    "show": ("tombola.commands.show", "show an experiment, or a recipe (--toml: as a file to edit)"),
    "report": ("tombola.commands.report", "write the HTML page of an experiment"),
    "verdict": ("tombola.commands.verdict", "judge an experiment: is it a winning ticket, and how sure is that"),
    "stability": ("tombola.commands.stability", "train again in another order: do networks end in the same valley"),
    "compare": ("tombola.commands.compare", "lay several experiments over each other"),
    "league": ("tombola.commands.league", "rank all criteria, allocations, resets and at-init methods, with intervals"),
    "export": ("tombola.commands.export", "write an experiment's numbers as CSV or JSON"),
    "ticket": ("tombola.commands.ticket", "save, inspect and compare ticket files"),
    "export-model": (
        "tombola.commands.export_model",
        "write a ticket's network as ONNX, as a torch.export program, or as weights",
    ),
    "cost": ("tombola.commands.cost", "weigh up a ticket: sizes, multiply-adds, and times measured here"),
    "motif": ("tombola.commands.motif", "gene regulatory networks: score, prune and draw motifs that make stripes"),
    "gc": ("tombola.commands.gc", "remove what no experiment in the store names"),
}
"""name -> (module with `main(arguments) -> exit code`, one line about it)."""

_LINES, _WIDTH = 12, 80  # a message is never larger than that


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


def _short(message: str) -> str:
    """The message, without its middle where it fills more than a few lines (a user's network may raise anything)."""
    lines = [part for line in message.splitlines() for part in textwrap.wrap(line, _WIDTH) or [""]]
    if len(lines) <= _LINES:
        return message
    return "\n".join([*lines[: _LINES - 4], "[...]", *lines[-3:]])


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends a command as Ctrl-C does: in order."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _command(given: Sequence[str]) -> int:
    name = given[0] if given else ""
    code = 0
    if name in {"-h", "--help", "help"}:
        print(_help())
    elif name in {"-V", "--version"}:
        print(f"tombola {__version__}")
    elif name in COMMANDS:
        code = importlib.import_module(COMMANDS[name][0]).main(given[1:])
    else:
        what = (
            f"Unknown command {name!r}. {suggest(name, COMMANDS)}" if given else f"Name one of {', '.join(COMMANDS)}."
        )
        raise UsageError(f"{what} More: tombola --help")
    if sys.stdout is not None:  # None: closed by the caller (`>&-`)
        sys.stdout.flush()
    return code


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code (0 good, 1 something failed, 2 a mistake in the call, 130 interrupted)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with _terminable():
            return _command(given)
    except TombolaError as error:
        print(_short(f"tombola: {error}"), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("tombola: interrupted; the same command goes on from what its store keeps", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `tombola ls | head`
        _forget_output()
        return 0
    except OSError as error:  # a full disk behind standard output, a name that is too long
        _forget_output()
        place = f"{error.filename}: " if error.filename else ""
        print(_short(f"tombola: {place}{error.strerror or error}"), file=sys.stderr)
        return 1


def _forget_output() -> None:
    """Python tries once more to write what is left when it ends, and would complain about it."""
    with suppress(OSError, ValueError, AttributeError):  # no file behind it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
