"""C programs around the kernels, without Python, under the address and undefined-behaviour sanitizers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from building import HERE, ROOT, build_and_run, compiler, setup, variants

PROGRAMS = sorted(path.name for path in HERE.glob("*_test.c"))


@pytest.mark.parametrize("variant", variants())
@pytest.mark.parametrize("program", PROGRAMS)
def test_program(program: str, variant: str, tmp_path: Path) -> None:
    assert build_and_run(program, variant, tmp_path).endswith("ok\n")


def test_the_sanitizers_are_at_work(tmp_path: Path) -> None:
    source = tmp_path / "beyond.c"
    source.write_text("int main(int n, char **v) { int a[2] = {0}; (void)v; return ((volatile int *)a)[n + 1]; }\n")
    with pytest.raises(AssertionError, match=r"AddressSanitizer|runtime error"):
        build_and_run(str(source), "generic", tmp_path)


def built(folder: Path, compiler_command: str) -> set[str]:
    """The libraries that setup.py leaves in a folder with this compiler; the build itself succeeds."""
    arguments = ["build_ext", "--force", "--build-lib", str(folder / "lib"), "--build-temp", str(folder / "temp")]
    subprocess.run(
        [sys.executable, "setup.py", "--quiet", *arguments],
        cwd=ROOT,
        env={**os.environ, "CC": compiler_command},
        check=True,
        capture_output=True,
        timeout=300,
    )
    return {path.name for path in (folder / "lib").rglob("*.so")}


def quick(folder: Path, unless: str = "") -> str:
    """A compiler command that optimises nothing, and that fails on one flag."""
    script = folder / "cc"
    refuse = f'case "$*" in *{unless}*) exit 1;; esac\n' if unless else ""
    script.write_text(f'#!/bin/sh\n{refuse}exec {compiler()} "$@" -O0\n')
    script.chmod(0o755)
    return str(script)


def test_a_build_with_and_without_a_compiler(tmp_path: Path) -> None:
    assert built(tmp_path / "with", quick(tmp_path)) == {f"_{variant}.so" for variant in setup().FLAGS}
    assert built(tmp_path / "without", "no-such-compiler") == set()


def test_one_instruction_set_beyond_the_compiler_leaves_the_others(tmp_path: Path) -> None:
    flags = setup().FLAGS
    (only, *_) = [flag for flag in flags["float64"] if flag not in flags["generic"]]
    assert built(tmp_path, quick(tmp_path, unless=only)) == {f"_{variant}.so" for variant in flags} - {"_float64.so"}


def test_only_marked_functions_are_visible(tmp_path: Path) -> None:
    """Two libraries in one process must not take each other's functions."""
    library = tmp_path / "lib.so"
    source = str(ROOT / "tombola/native/c/tombola.c")
    flags = [*setup().FLAGS["generic"], "-O0", "-shared", "-fPIC"]
    subprocess.run([compiler(), *flags, source, "-o", str(library), "-lm"], check=True, timeout=300)
    listed = subprocess.run(["nm", "-D", "--defined-only", str(library)], check=True, capture_output=True, text=True)
    names = [line.split()[-1] for line in listed.stdout.splitlines()]
    assert "tombola_abi" in names
    assert [name for name in names if not name.startswith("tombola_")] == []
