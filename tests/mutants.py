"""Put known mistakes back, one at a time, and see the tests fail: `make mutants`.

Each mutant is a mistake that has shipped in public code for pruning or lottery tickets, or one step away from such. It
is made in a copy of the package, and the tests named beside it must then fail. A survivor is a hole in the tests.

    python tests/mutants.py [WORD ...] [--jobs N]      only mutants whose name contains a WORD

The tests of a mutant run in a fork of this process, which has imported torch and scipy: that takes longer than
most of those tests.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import mistakes
import scipy.stats
import torch._dynamo
from mistakes.base import Mutant

PRELOADED = (torch._dynamo, scipy.stats)  # for the forks; nothing is computed here, so that they find no lock held
ROOT = Path(__file__).parent.parent
SECONDS = 240  # of wall time for one mutant; the machine may be busy
FIXED = {"PYTHONDONTWRITEBYTECODE": "1", "TOMBOLA_REQUIRE": "", "CI": "1"}  # CI: property tests draw the same examples


FAMILIES = [importlib.import_module(f"mistakes.{found.name}") for found in pkgutil.iter_modules(mistakes.__path__)]
MUTANTS: tuple[Mutant, ...] = tuple(mutant for family in FAMILIES for mutant in getattr(family, "MUTANTS", ()))


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One word, "killed" or "SURVIVED", or why a mutant could not be judged; and seconds."""

    mutant: Mutant
    word: str
    seconds: float


def copied(folder: Path) -> Path:
    """A copy of all that tests need."""
    for name in ("tombola", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py"):
        shutil.copy(ROOT / name, folder)
    return folder


def unchanged(chosen: Sequence[Mutant], jobs: int) -> str:
    """Run the tests of all chosen mutants where there is no mistake, so that what kills a mutant is the mistake.

    Returns what pytest said of those that failed; empty: all passed.
    """
    tests = sorted({test for mutant in chosen for test in mutant.tests.split()})
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", str(jobs), "--dist", "worksteal", *tests]
    with tempfile.TemporaryDirectory(prefix="tombola-unchanged-") as folder:
        copy = copied(Path(folder))
        environment = {**os.environ, **FIXED, "PYTHONPATH": folder}
        try:
            ended = subprocess.run(
                command, cwd=copy, env=environment, capture_output=True, text=True, timeout=5 * SECONDS, check=False
            )
        except subprocess.TimeoutExpired as error:
            return f"no end within {5 * SECONDS} s:\n{(error.stdout or b'').decode()}"
    return f"{ended.stdout}\n{ended.stderr}" if ended.returncode else ""


def run_tests(copy: Path, tests: str) -> NoReturn:
    """Become `python -m pytest -x TESTS` in a copy."""
    code = 70
    try:
        os.setsid()
        os.chdir(copy)
        os.environ |= {**FIXED, "PYTHONPATH": str(copy)}
        said = os.open(copy / "said.txt", os.O_WRONLY | os.O_CREAT)
        os.dup2(said, 1)
        os.dup2(said, 2)
        sys.dont_write_bytecode = True
        sys.path[:] = [str(copy), *(place for place in sys.path if Path(place) not in (ROOT, ROOT / "tests"))]
        sys.argv = ["pytest", "-x", "-q", "-p", "no:cacheprovider", *tests.split()]
        runpy.run_module("pytest", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A mutant whose tests run in another process."""

    mutant: Mutant
    copy: Path
    pid: int
    begun: float

    def ended(self) -> Verdict | None:
        """The verdict, once there is one; the copy is gone then."""
        seconds = time.monotonic() - self.begun
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid:
            code = os.waitstatus_to_exitcode(status)
            said = (self.copy / "said.txt").read_text(errors="replace")
            # 1: tests failed. Anything else is no verdict on the mutant: 2 interrupted, 4 usage, 5 nothing collected.
            word = {0: "SURVIVED", 1: "killed"}.get(code, f"pytest ended with {code}: {said[-300:]}")
        elif seconds > SECONDS:
            os.killpg(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            word = f"no verdict within {SECONDS} s"
        else:
            return None
        shutil.rmtree(self.copy, ignore_errors=True)
        return Verdict(mutant=self.mutant, word=word, seconds=seconds)


def begin(mutant: Mutant) -> Trial | Verdict:
    """Make the mistake in a copy and start its tests."""
    text = (ROOT / "tombola" / mutant.file).read_text()
    if text.count(mutant.good) != 1:
        word = f"STALE: {mutant.file} has the text {text.count(mutant.good)} times"
        return Verdict(mutant=mutant, word=word, seconds=0.0)
    copy = copied(Path(tempfile.mkdtemp(prefix="tombola-mutant-")))
    (copy / "tombola" / mutant.file).write_text(text.replace(mutant.good, mutant.bad))
    begun, pid = time.monotonic(), os.fork()
    if pid == 0:
        run_tests(copy, mutant.tests)
    return Trial(mutant=mutant, copy=copy, pid=pid, begun=begun)


def judged(mutants: Sequence[Mutant], jobs: int) -> Iterator[Verdict]:
    """A verdict on each, as they come; `jobs` at a time."""
    waiting, running = list(mutants), list[Trial]()
    while waiting or running:
        while waiting and len(running) < jobs:
            one = begin(waiting.pop(0))
            if isinstance(one, Verdict):
                yield one
            else:
                running.append(one)
        for trial in list(running):
            if (verdict := trial.ended()) is not None:
                running.remove(trial)
                yield verdict
        time.sleep(0.02)


def main() -> int:
    """Judge all mutants; 1 unless every one is killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    asked = parser.parse_args()
    chosen = [m for m in MUTANTS if not asked.words or any(word in m.name for word in asked.words)]
    begun = time.monotonic()
    if failures := unchanged(chosen, asked.jobs):
        print(f"{failures}\nThe tests do not pass on an unchanged copy.")
        return 1
    print(f"the tests pass on an unchanged copy ({time.monotonic() - begun:.0f} s)", flush=True)
    killed = 0
    for verdict in judged(chosen, asked.jobs):
        killed += verdict.word == "killed"
        print(f"{verdict.word:<9} {verdict.seconds:5.0f} s  {verdict.mutant.name}", flush=True)
    print(f"{killed} of {len(chosen)} mutants killed in {time.monotonic() - begun:.0f} s")
    return 0 if killed == len(chosen) and chosen else 1


if __name__ == "__main__":
    sys.exit(main())
