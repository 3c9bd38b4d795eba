"""What people type. A change here must be a decision."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys

import pytest
from cli_helpers import good

from tombola.cli import COMMANDS
from tombola.commands.mistakes import flags_of
from tombola.commands.motif import ACTIONS as MOTIF_ACTIONS
from tombola.commands.ticket import ACTIONS

FLAGS: dict[str, str] = {
    "recipes": "--json",
    "list": "--json",
    "run": "--data --model --net.hidden --net.activation --net.dropout --net.width --net.initializer "
    "--net.norm-scale --steps --batch-size --loss "
    "--label-smoothing --l2 --clip-norm --optimizer.name --optimizer.lr --optimizer.betas --optimizer.eps "
    "--optimizer.momentum --optimizer.nesterov --optimizer.weight-decay --lr-schedule.name "
    "--lr-schedule.warmup --lr-schedule.milestones --lr-schedule.factor --eval-every --normalise "
    "--validation --split-seed --augment --precision --memory-format --parts "
    "--search --levels --schedule --rate --output-factor --output-layer "
    "--allocation --criterion --granularity --probe.batches --probe.size --probe.balanced "
    "--probe.random-labels --probe.random-inputs --score-at --search-steps --rewind-to --reset "
    "--reset-pruned --protect --controls --draws --replicates --seed --endpoint --margin --data-dir "
    "--store --workers --threads --checkpoint-seconds --device --engine --stack --capture --deterministic --dry-run "
    "--page --json --quiet",
    "ls": "--store --json",
    "show": "--toml --json --store",
    "report": "--out --figures --json --quiet --store",
    "verdict": "--fallback --bca --json --store",
    "stability": "--steps --levels --shuffled --children --points --recompute --train-examples --threshold --data-dir "
    "--store --workers --device --dry-run --csv --page --json --quiet",
    "compare": "--arm --out --json --store",
    "league": "--recipe --divisions --densities --replicates --steps --data-dir --store --workers --device --engine "
    "--dry-run --page --json --quiet",
    "export": "--csv --json --store",
    "ticket save": "--level --replicate --trained --seed --json --store",
    "ticket inspect": "--at-most --json",
    "ticket diff": "--at-most --json",
    "export-model": "--out --model --weights --form --inputs --input-shape --batch --at-most --json",
    "cost": "--batch --model --input-shape --rounds --threads --onnx --at-most --json",
    "motif score": "--offset --intervals --substeps --json",
    "motif prune": "--method --tune --seed --strict --share --offset --intervals --substeps --save --json --quiet",
    "motif diverse": "--method --genes --levels --evaluations --seconds --seed --strict --at-least --most --out "
    "--json --quiet",
    "motif ticket": "--starts --genes --keep --rounds --late --success --reward --seed --store --json --quiet",
    "motif plot": "--out --landscape --offset --intervals --substeps --json --quiet",
    "gc": "--drop --dry-run --json --store",
}


GROUPS = {"ticket": ACTIONS, "motif": MOTIF_ACTIONS}


def test_commands() -> None:
    assert list(COMMANDS) == list(dict.fromkeys(name.split()[0] for name in FLAGS))
    for group, actions in GROUPS.items():
        assert [f"{group} {name}" for name in actions] == [name for name in FLAGS if name.startswith(f"{group} ")]


@pytest.mark.parametrize("command", FLAGS)
def test_flags_and_help(command: str) -> None:
    name, _, action = command.partition(" ")
    module = GROUPS[name][action][0] if action else COMMANDS[name][0]
    words = (action or name).split("-")
    kind = getattr(importlib.import_module(module), "".join(map(str.capitalize, words)))
    assert flags_of(kind) == FLAGS[command].split()
    shown = good(*command.split(), "--help").out
    assert shown.startswith(f"usage: tombola {command}")
    for flag in FLAGS[command].split():
        assert re.search(rf"^\W*{re.escape(flag)}\s", shown, re.MULTILINE), flag
    assert " --name" not in shown and " --summary" not in shown  # of a recipe; they stand in files alone


def test_help_of_a_recipe_shows_its_own_defaults() -> None:
    assert "(default: 50000)" in good("run", "mnist-lenet", "--help").out
    assert "RECIPE" in good("run", "--help").out


def test_first_help_needs_nothing_heavy() -> None:
    code = """
import sys, tombola.cli
for words in ("--help", "--version", "help", "ticket --help", "motif --help"):
    tombola.cli.main(words.split())
    print(words, *{"torch", "tyro", "numpy", "rich"} & sys.modules.keys(), sep=", ", file=sys.stderr)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout and found.stderr.splitlines() == [
        "--help",
        "--version",
        "help",
        "ticket --help",
        "motif --help",
    ]


def test_reading_results_needs_no_torch() -> None:
    code = "import sys, tombola.cli; tombola.cli.main(['recipes']); print('torch' in sys.modules, file=sys.stderr)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stderr.split() == ["False"]


def test_help_of_tickets_needs_no_torch() -> None:
    actions = [f"{group} {action}" for group in GROUPS for action in GROUPS[group]]
    commands = [*actions, "export-model", "cost"]
    code = f"""
import sys, tombola.cli
for command in {commands}:
    try:
        tombola.cli.main([*command.split(), "--help"])
    except SystemExit:
        print(command, *{{"torch"}} & sys.modules.keys(), sep=", ", file=sys.stderr)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stderr.splitlines() == commands
