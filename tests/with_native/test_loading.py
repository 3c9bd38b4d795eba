"""Each variant of the compiled kernels as it is forced, chosen, refused."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tombola import compiled
from tombola.errors import UsageError

HERE = [variant for variant in compiled.VARIANTS if compiled.runs(variant)]

PROBE = """
import torch
from tombola.compiled import compiled
from tombola.tensors import smallest
kernels = compiled()
print(kernels.name if kernels else None, smallest([torch.tensor([2.0, 1.0, 1.0])], 1)[0].tolist())
"""


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    functions = (compiled.compiled, compiled.load, compiled._choice)
    monkeypatch.delenv(compiled.VARIABLE, raising=False)
    for function in functions:
        function.cache_clear()
    yield
    for function in functions:
        function.cache_clear()


def process(value: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, compiled.VARIABLE: value}
    command = [sys.executable, "-c", PROBE]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize(
    ("value", "name"), [*((v, v) for v in HERE), ("off", "None"), ("auto", HERE[0]), ("", HERE[0])]
)
def test_forced_in_a_process_of_its_own(value: str, name: str) -> None:
    done = process(value)
    assert (done.returncode, done.stdout) == (0, f"{name} [False, True, False]\n"), done.stderr


def test_a_mistyped_name_in_a_process_of_its_own() -> None:
    assert "UsageError: TOMBOLA_NATIVE is 'avx'. Did you mean 'avx2'?" in process("avx").stderr


def test_every_variant_of_this_processor_loads() -> None:
    assert HERE[-1] == "generic"
    for variant in (*HERE, "float64"):
        found = compiled.load(variant)
        assert (found.name, found.library.tombola_abi()) == (variant, compiled.ABI)
        assert compiled.load(variant) is found
    assert compiled.compiled() is compiled.load(HERE[0])
    assert compiled.absent() is None


def test_a_processor_that_lacks_a_variant(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is never opened, let alone called."""
    opened = compiled._opened

    def watched(variant: str) -> object:
        assert variant == "generic"
        return opened(variant)

    monkeypatch.setattr(compiled, "runs", lambda variant: variant == "generic")
    monkeypatch.setattr(compiled, "_opened", watched)
    found = compiled.compiled()
    assert found is not None
    assert found.name == "generic"
    compiled._choice.cache_clear()
    compiled.compiled.cache_clear()
    monkeypatch.setenv(compiled.VARIABLE, "avx512")
    for function in (compiled.compiled, compiled.absent, lambda: compiled.load("avx512")):
        with pytest.raises(UsageError, match="this processor cannot run the compiled variant 'avx512'"):
            function()


def test_what_no_processor_runs() -> None:
    assert not compiled.load("generic").library.tombola_cpu_runs(b"avx1024")


def test_a_stale_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "ABI", compiled.ABI + 1)
    assert compiled.compiled() is None
    wanted = f"are of version {compiled.ABI - 1}, expected {compiled.ABI}; install Tombola again"
    assert wanted in str(compiled.absent())
    with pytest.raises(UsageError, match=wanted):
        compiled.load("generic")
