"""The loader where nothing usable is built, where something is switched off, and where a library is damaged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tombola import compiled
from tombola.errors import UsageError
from tombola.tensors import smallest


def forget() -> None:
    """What was read and loaded once is read and loaded anew."""
    for function in (compiled.compiled, compiled.load, compiled._choice):
        function.cache_clear()


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(compiled.VARIABLE, raising=False)
    forget()
    yield
    forget()


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without libraries, in which they are looked for."""
    monkeypatch.setattr(compiled, "_FOLDER", tmp_path)
    return tmp_path


def test_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(compiled.VARIABLE, "off")
    assert compiled.compiled() is None
    assert compiled.absent() == "the compiled kernels are switched off (TOMBOLA_NATIVE=off); unset it to use them"


@pytest.mark.parametrize(("wanted", "answer"), [("avx521", "Did you mean 'avx512'"), ("float64", "Known: auto, avx2")])
def test_a_mistyped_name(wanted: str, answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(compiled.VARIABLE, wanted)
    for function in (compiled.compiled, compiled.absent, lambda: smallest([torch.ones(3)], 1)):
        with pytest.raises(UsageError, match=rf"TOMBOLA_NATIVE is '{wanted}'\. {answer}"):
            function()


def test_an_unknown_variant() -> None:
    with pytest.raises(UsageError, match=r"no compiled variant 'generics'\. Did you mean 'generic'"):
        compiled.load("generics")


@pytest.mark.parametrize("value", ["", "auto"])
def test_no_library_at_all(value: str, empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(compiled.VARIABLE, value)
    assert compiled.compiled() is None
    reason = compiled.absent()
    assert reason is not None
    for part in ("are not built", str(empty / "_generic.so"), "install Tombola again", "C compiler"):
        assert part in reason
    assert "\n" not in reason
    assert smallest([torch.tensor([2.0, 1.0])], 1)[0].tolist() == [False, True]


@pytest.mark.parametrize("variant", compiled.VARIANTS)
def test_a_forced_variant_that_is_not_built(variant: str, empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(compiled.VARIABLE, variant)
    for function in (compiled.compiled, compiled.absent):
        with pytest.raises(UsageError, match=r"are not built: there is no .*install Tombola again"):
            function()


def test_a_damaged_library(empty: Path) -> None:
    (empty / "_generic.so").write_bytes(b"not a library")
    assert compiled.compiled() is None
    assert "cannot be loaded" in str(compiled.absent())
    with pytest.raises(UsageError, match=r"_generic.so cannot be loaded \(.*\); install Tombola again"):
        compiled.load("generic")
