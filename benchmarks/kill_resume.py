"""Kill a run at random moments, start it again by the same command: the results must be those of an undisturbed run.

    python benchmarks/kill_resume.py --runs 30
    python benchmarks/kill_resume.py --runs 0 --concurrent      two equal commands at once on one store

Every run has a store of its own and is killed (SIGKILL) one to three times, at moments drawn evenly from the time that
an undisturbed run takes. Most kills hit the main process with its workers, some the main process alone, whose workers
must then end by themselves. Compared are the document that the command writes, every answer but for seconds and
provenance, every stored state and mask, and the list of what was computed: nothing may be computed twice. The exit
code is 1 where anything differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # This folder holds a select.py and must not stand in for the standard library's.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import subprocess

ROOT = Path(__file__).resolve().parent.parent
EXPERIMENT = (
    *("digits-lenet", "--model", "mlp", "--net.hidden", "64", "32", "--levels", "3", "--replicates", "2"),
    *("--steps", "200", "--eval-every", "20", "--workers", "2"),
)
ALONE = 0.25  # the share of kills that hit the main process alone
PATIENCE = 60.0  # seconds for a dead run to be gone with all its workers; one that is still importing ends after that
LIMIT = 600.0  # seconds after which a run counts as hanging


class Wrong(Exception):
    """A run that did not end as it must."""


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a run leaves behind, without what may differ between two runs."""

    document: dict[str, Any]
    experiments: dict[str, Any]
    answers: dict[str, Any]
    objects: frozenset[str]
    masks: frozenset[str]


@dataclass(kw_only=True)
class Place:
    """A store, and the files of the runs on it."""

    folder: Path
    experiment: tuple[str, ...] = EXPERIMENT
    started: int = 0

    @property
    def store(self) -> Path:
        """The store."""
        return self.folder / "store"

    def start(self) -> Started:
        """Start the command in a session of its own."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.started += 1
        document, errors = self.folder / f"{self.started}.json", self.folder / f"{self.started}.err"
        command = [sys.executable, "-m", "benchmarks.often", "run", *self.experiment]
        command += ["--store", str(self.store), "--json", str(document), "--quiet", "--checkpoint-seconds", "0.02"]
        with errors.open("w") as stderr:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, "COMPUTED": str(self.folder / "computed")},
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,
            )
        return Started(process, document, errors)

    def complaints(self) -> list[str]:
        """What any run reported, and damaged files; a worker orphaned while it starts may leave a traceback besides."""
        lines = [line for path in sorted(self.folder.glob("*.err")) for line in path.read_text().splitlines()]
        lines = [line for line in lines if line.startswith("tombola:")]
        return lines + [f"damaged: {path.name}" for path in self.store.rglob(".*.damaged")]

    def repeated(self) -> list[str]:
        """Requests that were computed more than once."""
        counts = Counter((self.folder / "computed").read_text().split())
        return [request for request, count in counts.items() if count > 1]

    def unfinished(self) -> int:
        """How many trainings stand at a checkpoint."""
        return len(list((self.store / "checkpoints").glob("[0-9a-f]*")))


@dataclass(frozen=True)
class Started:
    """A run on its way."""

    process: subprocess.Popen[bytes]
    document: Path
    errors: Path

    def finish(self) -> dict[str, Any]:
        """Wait for its end; returns the document it wrote.

        Raises:
            Wrong: it failed, complained, or hangs.
        """
        try:
            code = self.process.wait(LIMIT)
        except subprocess.TimeoutExpired as error:
            self.kill(alone=False)
            raise Wrong(f"still running after {LIMIT:.0f} s") from error
        errors = self.errors.read_text().strip()
        if code or errors:
            raise Wrong(f"exit code {code}: {errors[-300:]}")
        document: dict[str, Any] = json.loads(self.document.read_text())
        return document

    def kill(self, *, alone: bool) -> None:
        """SIGKILL to the main process, and to all the others too unless `alone`; waits until all are gone.

        Raises:
            Wrong: a worker has outlived it.
        """
        (os.kill if alone else os.killpg)(self.process.pid, signal.SIGKILL)
        self.process.wait()
        deadline = time.monotonic() + PATIENCE
        while left := session(self.process.pid):
            if time.monotonic() > deadline:
                os.killpg(self.process.pid, signal.SIGKILL)
                raise Wrong(f"{len(left)} processes outlived the killed one by {PATIENCE:.0f} s")
            time.sleep(0.02)


def session(leader: int) -> list[int]:
    """The living processes of a session (Linux): a run, its workers, whatever they have started.

    >>> session(os.getsid(0)) != []
    True
    """
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, sid = path.read_text().rpartition(")")[2].split()[:4]
        except (OSError, ValueError):  # it has just ended
            continue
        if int(sid) == leader and state not in "ZX":
            found.append(int(path.parent.name))
    return found


def contents(place: Place, document: dict[str, Any]) -> Contents:
    """Read a store whole, by the files alone.

    Raises:
        Wrong: an object does not fit its name.
    """
    for path in (place.store / "objects").rglob("[0-9a-f]*.safetensors"):
        if hashlib.sha256(path.read_bytes()).hexdigest() != path.stem:
            raise Wrong(f"the object {path.name} is damaged")
    return Contents(
        document=document,
        experiments={name: content["rows"] for name, content in _files(place.store / "experiments")},
        answers={name: _lasting(content) for name, content in _files(place.store / "answers")},
        objects=frozenset(path.stem for path in (place.store / "objects").rglob("[0-9a-f]*.safetensors")),
        masks=frozenset(path.stem for path in (place.store / "masks").glob("[0-9a-f]*.json")),
    )


def _files(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    return [(path.stem, json.loads(path.read_text())) for path in sorted(folder.rglob("[0-9a-f]*.json"))]


def _lasting(content: dict[str, Any]) -> dict[str, Any]:
    """An answer without what may differ from run to run: how long it took and where."""
    passing = {"sha256", "seconds", "provenance"}
    return {k: _lasting(v) if isinstance(v, dict) else v for k, v in content.items() if k not in passing}


def differences(found: Contents, wanted: Contents) -> list[str]:
    """What two runs do not have in common, one line each."""
    lines = [] if found.document == wanted.document else ["the document differs"]
    for kind in ("experiments", "answers"):
        ours, theirs = getattr(found, kind), getattr(wanted, kind)
        lines += [f"{kind}: {n} differs" for n in ours.keys() | theirs.keys() if ours.get(n) != theirs.get(n)]
    for kind in ("objects", "masks"):
        more, fewer = getattr(found, kind) - getattr(wanted, kind), getattr(wanted, kind) - getattr(found, kind)
        lines += [f"{kind}: {len(more)} more and {len(fewer)} fewer"] if more or fewer else []
    return lines


@dataclass(kw_only=True)
class Outcome:
    """How a disturbed run went.

    Args:
        kills: seconds after each start, and which processes were hit.
        unfinished: trainings that stood at a checkpoint when a kill came.
        wrong: what must not be.
    """

    kills: list[str] = field(default_factory=list)
    unfinished: int = 0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        verdict = "; ".join(self.wrong) if self.wrong else "equal"
        return f"killed at {', '.join(self.kills) or '-'}; {self.unfinished} checkpoints left then: {verdict}"


def undisturbed(place: Place) -> tuple[Contents, float]:
    """What must come out, and the seconds it takes."""
    begun = time.monotonic()
    document = place.start().finish()
    seconds = time.monotonic() - begun
    return contents(place, document), seconds


def disturbed(place: Place, draw: random.Random, wanted: Contents, seconds: float, *, most: int = 3) -> Outcome:
    """Kill a run one to `most` times, then let it finish, and compare."""
    outcome, wished = Outcome(), draw.randint(1, most)
    try:
        while len(outcome.kills) < wished:
            moment, alone = draw.uniform(0, seconds), draw.random() < ALONE
            run, begun = place.start(), time.monotonic()
            try:
                run.process.wait(moment)
            except subprocess.TimeoutExpired:
                run.kill(alone=alone)
                outcome.kills.append(f"{moment:.2f} s{' (main process alone)' if alone else ''}")
                outcome.unfinished += place.unfinished()
                continue
            if outcome.kills:
                break  # the rest was done sooner
            seconds = time.monotonic() - begun  # the machine has become faster: once more from the beginning
            shutil.rmtree(place.folder)
        outcome.wrong += differences(contents(place, place.start().finish()), wanted)
    except Wrong as error:
        outcome.wrong.append(str(error))
    outcome.wrong += place.complaints()
    outcome.wrong += [f"{request} was computed twice" for request in place.repeated()]
    return outcome


def concurrent(place: Place, wanted: Contents) -> list[str]:
    """Two equal commands at once on one store; returns what must not be."""
    runs = [place.start(), place.start()]
    wrong = []
    for number, run in enumerate(runs, 1):
        try:
            found = differences(contents(place, run.finish()), wanted)
            wrong += [f"command {number}: {line}" for line in found]
        except Wrong as error:
            wrong.append(f"command {number}: {error}")
    wrong += place.complaints()
    return wrong + [f"{request} was computed twice" for request in place.repeated()]


def main() -> int:
    """Runs, prints one line a run and a summary; returns the exit code."""
    parser = argparse.ArgumentParser(description="kill runs at random moments and resume them")
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--concurrent", action="store_true", help="then two equal commands at once on one store")
    given = parser.parse_args()
    draw = random.Random(given.seed)
    with tempfile.TemporaryDirectory(prefix="tombola-kill-") as temporary:
        folder = Path(temporary)
        wanted, seconds = undisturbed(Place(folder=folder / "undisturbed"))
        print(f"undisturbed: {seconds:.1f} s, {len(wanted.answers)} answers, {len(wanted.objects)} objects", flush=True)
        equal = 0
        for number in range(1, given.runs + 1):
            outcome = disturbed(Place(folder=folder / str(number)), draw, wanted, seconds)
            equal += not outcome.wrong
            print(f"run {number:2}: {outcome}", flush=True)
        good = equal == given.runs
        if given.runs:
            print(f"{equal} of {given.runs} equal")
        if given.concurrent:
            wrong = concurrent(Place(folder=folder / "concurrent"), wanted)
            print(f"two at once: {'; '.join(wrong) or 'equal, nothing computed twice'}")
            good = good and not wrong
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
