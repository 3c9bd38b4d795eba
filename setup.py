"""Builds the compiled kernels, one library for each instruction set; everything else stands in pyproject.toml.

They are optional: without a C compiler, or where one instruction set is beyond it, the installation goes on, and
`tombola.compiled.absent` says what is missing. They are plain libraries for ctypes, not modules to import.
"""

from __future__ import annotations

import platform
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCES = Path("tombola", "native", "c")

# Behind Python's own flags, where the last of -O2 and -O3 wins: below -O3 small arrays do not become registers.
COMMON = ["-O3", "-g0", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-fvisibility=hidden"]
FLAGS = {"generic": COMMON, "float64": [*COMMON, "-DFLOAT64", "-Wno-psabi"]}
if platform.machine().lower() in {"x86_64", "amd64"}:
    FLAGS["avx2"] = [*COMMON, "-march=x86-64-v3"]
    FLAGS["avx512"] = [*COMMON, "-march=x86-64-v4", "-mprefer-vector-width=512"]


class BuildLibraries(build_ext):
    """Extensions as plain shared libraries: no Python ABI in the name, and no module to initialise."""

    def get_ext_filename(self, fullname: str) -> str:
        """The library's path below the folder it is built into."""
        return str(Path(*fullname.split("."))) + ".so"

    def get_export_symbols(self, ext: Extension) -> list[str]:
        """Nothing beyond what the sources mark with EXPORT."""
        return ext.export_symbols


def extensions() -> list[Extension]:
    """One for each instruction set, all from one source."""
    return [
        Extension(
            f"tombola.native._{variant}",
            [str(SOURCES / "tombola.c")],
            depends=sorted(str(path) for path in SOURCES.glob("*.[ch]")),
            extra_compile_args=flags,
            libraries=["m"],
            optional=True,
        )
        for variant, flags in FLAGS.items()
    ]


if __name__ == "__main__":
    setup(ext_modules=extensions(), cmdclass={"build_ext": BuildLibraries})
