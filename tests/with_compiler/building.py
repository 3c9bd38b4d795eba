"""Builds a C program of this folder around the kernels, as setup.py builds the libraries, and runs it."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

SANITIZERS = [
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
    "-fno-omit-frame-pointer",
    "-g",
    "-O0",  # behind the variant's -O3: optimising the sanitizers' checks takes ten times what running them does
]
"""Flags that find mistakes in the sources; what the optimiser makes of them is run by the tests of the libraries."""


def setup() -> ModuleType:
    """The module setup.py, which names the variants and their flags."""
    spec = importlib.util.spec_from_file_location("tombola_setup", ROOT / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compiler() -> str:
    """The C compiler: $CC, cc or gcc."""
    found = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    assert found, "no C compiler"
    return found


@functools.cache
def variants() -> list[str]:
    """The variants of setup.py that this processor runs, whether the package's own libraries are built or not."""
    with tempfile.TemporaryDirectory() as folder:
        return build_and_run("variants.c", "generic", Path(folder), *setup().FLAGS, sanitize=False).split()


def build_and_run(source: str, variant: str, folder: Path, *arguments: str, sanitize: bool = True) -> str:
    """Compiles a program with the flags of a variant, every warning an error, and runs it.

    Args:
        source: the name of a C file in this folder; it includes the kernels that it tests.
        variant: as in setup.py's FLAGS.
        folder: where the program goes.
        arguments: of the program.
        sanitize: build with the address and undefined-behaviour sanitizers, where any finding ends the program.

    Returns:
        What the program printed; its exit code was 0.
    """
    program = folder / f"{Path(source).stem}-{variant}"
    flags = [*setup().FLAGS[variant], *(SANITIZERS if sanitize else []), "-Wall", "-Wextra", "-Werror"]
    include = f"-I{ROOT / 'tombola/native/c'}"
    command = [compiler(), *flags, include, str(HERE / source), "-o", str(program), "-lm"]
    built = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert built.returncode == 0, f"{' '.join(command)}\n{built.stderr}"
    done = subprocess.run([str(program), *arguments], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, f"{program.name} ended with {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout
