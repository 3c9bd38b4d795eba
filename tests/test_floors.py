"""The house: imports go down, or sideways without a cycle; and what must be light to import is."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tombola

ROOT = Path(tombola.__file__).parent

# Module or package -> floor. A package speaks for the modules in it.
FLOORS = {
    "tombola.tensors": 0,
    "tombola.compiled": 0,
    "tombola.compiled_select": 0,
    "tombola.streams": 0,
    "tombola.errors": 0,
    "tombola.lazy": 0,
    "tombola.importing": 0,
    "tombola.registry": 1,
    "tombola.masks": 1,
    "tombola.scopes": 1,
    "tombola.schedules": 1,
    "tombola.specs": 1,
    "tombola.starts": 1,
    "tombola.requests": 1,
    "tombola.answers": 1,
    "tombola.criteria": 2,
    "tombola.allocation": 2,
    "tombola.granularity": 2,
    "tombola.resets": 2,
    "tombola.pruning": 2,
    "tombola.cuts": 2,
    "tombola.data": 3,
    "tombola.models": 3,
    "tombola.training": 3,
    "tombola.rewinding": 3,
    "tombola.native": 3,
    "tombola.tasks": 3,
    "tombola.supervised": 3,
    "tombola.store": 3,
    "tombola.statistics": 3,
    "tombola.search": 4,
    "tombola.executors": 5,
    "tombola.lookup": 5,
    "tombola.runner": 5,
    "tombola.turns": 5,
    "tombola.watching": 5,
    "tombola.tickets": 5,
    "tombola.shrinking": 5,
    "tombola.costing": 5,
    "tombola.exporting": 5,
    "tombola.ranks": 5,
    "tombola.levels": 5,
    "tombola.ladder": 5,
    "tombola.shelf": 5,
    "tombola.asked": 5,
    "tombola.procedure": 5,
    "tombola.notes": 5,
    "tombola.finding": 5,
    "tombola.analysis": 5,
    "tombola.report": 6,
    "tombola.recipes": 6,
    "tombola.league": 6,
    "tombola.planning": 6,
    "tombola.stability": 6,
    "tombola.experiment": 6,
    "tombola.journal": 6,
    "tombola.preview": 6,
    "tombola.integrations": 7,
    "tombola.motifs": 7,
    "tombola.commands": 8,
    "tombola.cli": 8,
    "tombola.__main__": 8,
    "tombola": 8,
}

UPWARDS = {
    ("tombola.requests", "tombola.pruning"): "a type only: a Prune carries its Pruner, and nothing here calls it",
    ("tombola.starts", "tombola.resets"): "a type only: a start carries its reset, and nothing here calls it",
    ("tombola.executors.fitting", "tombola"): "__version__ only, which is provenance",
    ("tombola.tickets.writing", "tombola"): "__version__ only, which is provenance",
    ("tombola.notes", "tombola"): "__version__ only, which is provenance",
}


@dataclass(frozen=True, kw_only=True)
class Import:
    """One module names another, `inside` a function or `typing` only, or at the top of the module."""

    source: str
    target: str
    inside: bool
    typing: bool


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def targets(node: ast.AST, package: str) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert not node.level, f"{package}: imports are absolute"
        names = [f"{node.module}.{alias.name}" for alias in node.names]
        return [name if name in MODULES else str(node.module) for name in names]
    if (
        isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value in MODULES
        and node.value != "tombola"
    ):
        return [node.value]  # a lazy import path
    return []


def imports(source: str, node: ast.AST, inside: bool = False, typing: bool = False) -> Iterator[Import]:
    """All imports below `node`; lazy paths, which are strings, count as inside a function."""
    for child in ast.iter_child_nodes(node):
        for target in targets(child, source):
            if target.split(".")[0] == "tombola":
                lazy = inside or isinstance(child, ast.Constant)
                yield Import(source=source, target=target, inside=lazy, typing=typing)
        checked = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
        function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from imports(source, child, inside or function, typing or checked)


def edges() -> list[Import]:
    return [e for name, path in MODULES.items() for e in imports(name, ast.parse(path.read_text(encoding="utf-8")))]


EDGES = edges()


def floor(module: str) -> int | None:
    while module not in FLOORS and "." in module:
        module = module.rpartition(".")[0]
    # `tombola` is the package's own __init__, not the floor of what nobody listed
    return FLOORS.get(module)


def listed(module: str) -> bool:
    return module == "tombola" or any(module == name or module.startswith(f"{name}.") for name in FLOORS if "." in name)


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """The modules that import each other round, empty where none do."""
    left = {name: set(to) & graph.keys() for name, to in graph.items()}
    while leaves := [name for name, to in left.items() if not to]:
        left = {name: to.difference(leaves) for name, to in left.items() if name not in leaves}
    return sorted(left)


def test_every_module_has_a_floor_and_every_floor_a_module() -> None:
    assert len(MODULES) > 60
    assert [name for name in MODULES if not listed(name)] == []
    assert [name for name in FLOORS if name not in MODULES] == []


def test_imports_go_down_or_sideways() -> None:
    assert len(EDGES) > 150
    up = {(e.source, e.target) for e in EDGES if (floor(e.source) or 0) < (floor(e.target) or 0)}
    assert sorted(up - UPWARDS.keys()) == []
    assert sorted(UPWARDS.keys() - up) == []  # an exception that nobody needs any more
    assert all(e.typing for e in EDGES if (e.source, e.target) == ("tombola.requests", "tombola.pruning"))


def test_no_module_imports_itself_round() -> None:
    graph: dict[str, set[str]] = {name: set() for name in MODULES}
    for edge in EDGES:
        package = edge.source if MODULES[edge.source].name == "__init__.py" else ""
        lazy = package and edge.inside  # a package's lazy names are looked up by others, never by itself
        if not edge.typing and not lazy and (edge.source, edge.target) not in UPWARDS:
            graph[edge.source].add(edge.target)
    assert cycle(graph) == []


def test_the_finders_find() -> None:
    text = """
from typing import TYPE_CHECKING
import tombola.masks
from tombola import __version__, errors
if TYPE_CHECKING:
    from tombola.pruning import Pruner
HOMES = {"run": "tombola.experiment"}
def f():
    from tombola.store import Store
"""
    found = [(e.target, e.inside, e.typing) for e in imports("x", ast.parse(text))]
    assert found == [
        ("tombola.masks", False, False),
        ("tombola", False, False),
        ("tombola.errors", False, False),
        ("tombola.pruning", False, True),
        ("tombola.experiment", True, False),
        ("tombola.store", True, False),
    ]
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}, "e": set()}) == ["a", "b", "c", "d"]
    assert cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
    assert (floor("tombola.store.files"), floor("tombola.masks"), floor("tombola")) == (3, 1, 8)


def test_light_modules_import_neither_torch_nor_numpy() -> None:
    light = [
        "tombola",
        "tombola.errors",
        "tombola.compiled",
        "tombola.recipes",
        "tombola.search",
        "tombola.store",
        "tombola.analysis.document",
    ]
    code = f"""
import importlib, sys
for name in {light}:
    importlib.import_module(name)
    print(name, *[heavy for heavy in ("torch", "numpy", "scipy", "sklearn", "matplotlib") if heavy in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines() == light
