"""What a group of tests needs from outside, and whether it is there; and numbers that are the same every time.

Tests that need something from outside stand in `tests/with_*/`. A group is collected when its need is met; one line per
group says so. With TOMBOLA_REQUIRE=all (or a comma-separated list of groups) a missing need is a failure.
"""

from __future__ import annotations

import importlib.util
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

from tombola.compiled import load
from tombola.errors import UsageError

HERE = Path(__file__).parent

settings.register_profile("explore", deadline=None)
settings.register_profile("repeat", deadline=None, derandomize=True)
settings.load_profile("repeat" if os.environ.get("CI") or os.environ.get("TOMBOLA_REQUIRE") else "explore")


def _data() -> str:
    folder = Path(os.environ.get("TOMBOLA_DATA") or HERE.parent / "data")
    missing = [name for name in ("mnist", "fashion-mnist", "cifar-10-batches-bin") if not (folder / name).is_dir()]
    return f"{', '.join(missing)} not in {folder}; set TOMBOLA_DATA" if missing else ""


def _native() -> str:
    try:
        load("generic")
    except UsageError as error:
        return str(error)
    return ""


def _integrations() -> str:
    missing = [name for name in ("lightning", "transformers", "accelerate") if importlib.util.find_spec(name) is None]
    return f"{', '.join(missing)} not installed; pip install -e '.[integrations]'" if missing else ""


def _export() -> str:
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    return f"{', '.join(missing)} not installed; pip install -e '.[onnx]'" if missing else ""


def _docs() -> str:
    missing = [name for name in ("mkdocs", "material", "mkdocstrings") if importlib.util.find_spec(name) is None]
    return f"{', '.join(missing)} not installed; pip install -e '.[docs]'" if missing else ""


def _structured() -> str:
    missing = importlib.util.find_spec("torch_pruning") is None
    return "torch-pruning not installed; pip install -e '.[structured]'" if missing else ""


NEEDS: dict[str, Callable[[], str]] = {
    "with_data": _data,
    "with_browser": lambda: "" if shutil.which("chromium") else "chromium is not on PATH",
    "with_compiler": lambda: "" if shutil.which("cc") or shutil.which("gcc") else "neither cc nor gcc is on PATH",
    "with_native": _native,
    "with_integrations": _integrations,
    "with_export": _export,
    "with_docs": _docs,
    "with_structured": _structured,
}
"""group -> what is missing; empty: nothing."""


def pytest_make_parametrize_id(val: object, argname: str) -> None:
    """Bytes get an id of their own: what they hold may differ from worker to worker, as gzip's clock does."""
    if isinstance(val, bytes):
        raise pytest.UsageError(f"{argname} holds bytes without an id; give the test ids=[...].")


def _reseed() -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)


@pytest.fixture(autouse=True)
def _same_draws() -> None:
    """A test draws the same numbers alone, after others, and in any order."""
    _reseed()


def pytest_fixture_setup(fixturedef: pytest.FixtureDef[object]) -> None:
    """What a module makes once is the same, whichever of its tests asks first."""
    if fixturedef.scope != "function":
        _reseed()


@pytest.fixture(autouse=True)
def _own_data_only(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the group that needs the data folder sees it: all other tests give the same on every machine."""
    if "with_data" not in request.path.parts:
        monkeypatch.delenv("TOMBOLA_DATA", raising=False)


@pytest.fixture(autouse=True, scope="module")
def _reference_alone(request: pytest.FixtureRequest) -> Iterator[None]:
    """Only the group of the native trainer meets it: all other tests train the same bits on every machine."""
    with pytest.MonkeyPatch.context() as patch:
        if "with_native" not in request.path.parts:
            patch.setattr("tombola.native.why_not", lambda *_: "these are tests of the reference loop")
        yield


def _required(group: str) -> bool:
    wanted = os.environ.get("TOMBOLA_REQUIRE", "")
    return wanted == "all" or group in wanted.split(",")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out a group whose need is not met, unless it is required."""
    name = collection_path.name
    if collection_path.parent == HERE and name.startswith("with_") and NEEDS[name]() and not _required(name):
        return True
    return None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each group."""
    for group, missing in NEEDS.items():
        lack = missing()
        terminalreporter.write_line(f"{group}: {'left out: ' + lack if lack else 'ran'}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A required group whose need is missing is a failure."""
    for group, missing in NEEDS.items():
        if _required(group) and missing():
            raise pytest.UsageError(f"{group} is required, but {missing()}")
