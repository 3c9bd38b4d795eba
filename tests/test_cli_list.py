"""`tombola list`: everything that a recipe can name, without torch; and one of them whole."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any

import pytest
from cli_helpers import call, document, good

from tombola.commands.list import KINDS
from tombola.criteria import Criterion, needs
from tombola.errors import suggest
from tombola.registry import chosen, options_of

ENTRIES = [(kind, name) for kind, (_, registry) in KINDS.items() for name in registry]


@needs(data=True, initial=True, gathered=("movement",), passes=2.0, units=True)
@dataclasses.dataclass(frozen=True, kw_only=True)
class Demanding:
    """Wants everything."""

    rounds: int
    names: tuple[str, ...] = ("a", "b")
    fast: bool = False
    note: str = ""

    def __call__(self, *_: object) -> Any: ...


_: type[Criterion] = Demanding


@pytest.mark.parametrize("kind", KINDS)
def test_every_entry_has_a_line(kind: str, tmp_path: Any) -> None:
    _, registry = KINDS[kind]
    path = tmp_path / "list.json"
    lines = good("list", kind, "--json", path).out.splitlines()
    assert len(lines) == len(registry)
    for line, (name, entry) in zip(lines, registry.items(), strict=True):
        assert line.startswith(name + " ")
        assert line.split("  ")[0].split(" = ") == [name, *entry.aliases]
        assert f"  {entry.summary}" in line
        assert line.endswith(f"[{entry.source}]" if entry.source else entry.summary)
    found = document(path)
    assert found["schema"] == 1
    assert found[kind] == [
        {"name": n, "aliases": list(e.aliases), "summary": e.summary, "source": e.source} for n, e in registry.items()
    ]
    assert good("list", kind, "--json", "-").json == found


@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_each_entry_is_shown_whole(kind: str, name: str) -> None:
    what, registry = KINDS[kind]
    entry, made = registry[name], registry[name].load()
    shown = good("list", kind, name).out
    assert entry.summary in shown and entry.source in shown
    assert made.__doc__.strip().splitlines()[0] in shown
    found = good("list", kind, name, "--json", "-").json
    assert found["name"] == name and found["text"] in shown
    options = {option["name"]: option["default"] for option in found["options"]}
    if not hasattr(made, "of_options"):
        assert list(options) == list(options_of(made))
    if isinstance(made, type) and all(default is not None for default in options.values()):
        written = ",".join(f"{option}={default}" for option, default in options.items() if default)
        assert chosen(f"{name}:{written}" if written else name, registry, what) == made()  # as it would be typed
    assert bool(found["needs"]) == (kind == "criteria")
    for alias in entry.aliases:
        assert good("list", kind, alias).out == shown


def test_options_and_needs_are_spelled_out() -> None:
    shown = good("list", "criteria", f"{__name__}:Demanding").out.splitlines()
    assert shown == [
        f"{__name__}:Demanding: your own",
        "option: rounds=INT (must be given)",
        "option: names=TEXT/... (default a/b)",
        "option: fast=true|false (default false)",
        "option: note=TEXT (default empty)",
        "needs: scored at end, unless --score-at says otherwise",
        "needs: examples (--probe.batches, --probe.size); 2 x forward and backward over each batch",
        "needs: the initial weights",
        "needs: sums gathered while training: movement",
        "needs: whole units are scored: --granularity natural removes them whole",
        "",
        "Wants everything.",
    ]
    assert "option: by=size|norm|mean (default size)" in good("list", "allocations", "depth").out
    assert "option: final=FLOAT (must be given)" in good("list", "schedules", "zhu-gupta").out
    assert "option: PATTERN=FLOAT (must be given)" in good("list", "allocations", "per-layer").out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Name what to list: tombola list KIND [NAME]. Kinds: criteria, allocations, "),
        (["criterions"], "Unknown kind 'criterions'. Did you mean 'criteria'?"),
        (["criteria", "magnitud"], "Unknown criterion 'magnitud'. Did you mean 'magnitude'?"),
        (["allocations", "uniform++"], "Unknown allocation 'uniform++'. Did you mean 'uniform+'?"),
        (["searches", "one-shot"], f"Unknown search 'one-shot'. {suggest('one-shot', ['oneshot'])}"),
        (["controls", "os:path"], "Unknown control 'os:path'."),
        (["schedules", "nowhere:f"], "The schedule 'nowhere:f' cannot be imported"),
        (["criteria", "magnitude", "random"], "got 3 words"),
        (["criteria", "--jsn", "x"], "Unknown flag '--jsn'. Did you mean '--json'?"),
    ],
)
def test_what_is_not_known_is_said(arguments: list[str], message: str) -> None:
    called = call("list", *arguments)
    assert called.code == 2
    assert called.out == ""
    assert message in " ".join(called.err.split())


def test_a_list_needs_nothing_heavy() -> None:
    code = f"""
import sys, tombola.cli
for kind in {[*KINDS]}:
    tombola.cli.main(["list", kind])
    print(kind, *{{"torch", "numpy", "scipy", "rich"}} & sys.modules.keys(), file=sys.stderr)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout and found.stderr.splitlines() == [*KINDS]
