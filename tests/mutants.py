"""Put known mistakes back, one at a time, and see the tests fail: `make mutants`.

Each mutant is a mistake that has shipped in public code for pruning or lottery tickets, or one step away from such. It
is made in a copy of the package, and the tests named beside it must then fail. A survivor is a hole in the tests.

    python tests/mutants.py [WORD ...] [--jobs N]      only mutants whose name contains a WORD
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mistakes import keeping, native, pruning, reporting, searching, shipping, training
from mistakes.base import Mutant

ROOT = Path(__file__).parent.parent
SECONDS = 240  # of wall time for one mutant; the machine may be busy


FAMILIES = (keeping, native, pruning, reporting, searching, shipping, training)
MUTANTS = tuple(mutant for family in FAMILIES for mutant in family.MUTANTS)


def judge(mutant: Mutant, seconds: int = SECONDS) -> tuple[str, float]:
    """Run the mutant's tests on a changed copy: "killed", "SURVIVED", or why it could not be judged; and seconds."""
    with tempfile.TemporaryDirectory(prefix="tombola-mutant-") as folder:
        copy = Path(folder)
        for name in ("tombola", "tests"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "setup.py"):
            shutil.copy(ROOT / name, copy)
        file = copy / "tombola" / mutant.file
        text = file.read_text()
        if mutant.good and text.count(mutant.good) != 1:
            return f"STALE: {mutant.file} has the text {text.count(mutant.good)} times", 0.0
        file.write_text(text.replace(mutant.good, mutant.bad) if mutant.good else text)
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *mutant.tests.split()]
        environment = {**os.environ, "PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1", "TOMBOLA_REQUIRE": ""}
        begun = time.monotonic()
        try:
            ended = subprocess.run(
                command, cwd=copy, env=environment, capture_output=True, text=True, timeout=seconds, check=False
            )
        except subprocess.TimeoutExpired:
            return f"no verdict within {seconds} s", float(seconds)
    # 1: tests failed. Anything else is no verdict on the mutant: 2 interrupted, 4 usage, 5 nothing collected.
    other = f"pytest ended with {ended.returncode}: {ended.stdout[-300:]}"
    return {0: "SURVIVED", 1: "killed"}.get(ended.returncode, other), time.monotonic() - begun


def unchanged() -> Mutant:
    """No mistake at all: the tests of all mutants pass on a copy, so that what kills a mutant is the mistake."""
    tests = " ".join(sorted({test for mutant in MUTANTS for test in mutant.tests.split()}))
    return Mutant(name="unchanged", file="__init__.py", good="", bad="", tests=tests)


def main() -> int:
    """Judge all mutants; 1 unless every one is killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    asked = parser.parse_args()
    chosen = [m for m in MUTANTS if not asked.words or any(word in m.name for word in asked.words)]
    verdict, _ = judge(unchanged(), 5 * SECONDS)  # the tests of all mutants together
    if verdict != "SURVIVED":
        print(f"The tests do not pass on an unchanged copy: {verdict}")
        return 1
    killed = 0
    with ThreadPoolExecutor(asked.jobs) as pool:
        for mutant, (verdict, seconds) in zip(chosen, pool.map(judge, chosen), strict=True):
            killed += verdict == "killed"
            print(f"{verdict:<9} {seconds:5.0f} s  {mutant.name}", flush=True)
    print(f"{killed} of {len(chosen)} mutants killed")
    return 0 if killed == len(chosen) and chosen else 1


if __name__ == "__main__":
    sys.exit(main())
