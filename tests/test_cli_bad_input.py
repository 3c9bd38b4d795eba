"""Every mistake is answered by a few words that help, exit code 2, and nothing written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import MODELS, NET, SMALL, arrays, call, files, good, images, targets, undrawn

LINES = 12
RUN = ("run", "digits-lenet", *SMALL, "--store", "store")
FLAT = (*RUN, "--data", "flat.npz")
LONG = "a-very-long-name-" * 300


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory with everything that can be wrong in it, and one good store."""
    root = tmp_path_factory.mktemp("place")
    broken = arrays()["x_train"].copy()
    broken[3, 2] = np.nan
    for name, content in {
        "flat": arrays(),
        "images": images(),
        "numbers": targets(2),
        "nan": arrays(x_train=broken),
        "short": arrays(y_train=np.arange(79) % 3),
        "label": arrays(y_test=np.arange(30) % 4),
        "negative": arrays(y_train=np.arange(80) % 3 - 1),
        "objects": arrays(x_train=np.array([{}] * 80, dtype=object)),
        "empty": arrays(x_train=np.zeros((0, 6)), y_train=np.zeros(0, dtype=int)),
        "words": arrays(y_train=np.array(["a"] * 80)),
        "dark": arrays(x_train=np.zeros((80, 6)), x_test=np.zeros((30, 6))),
    }.items():
        np.savez(root / f"{name}.npz", **content)  # type: ignore[arg-type]
    np.savez(root / "lacking.npz", x_train=broken)
    np.save(root / "single.npy", broken)
    whole = (root / "flat.npz").read_bytes()
    (root / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (root / "altered.npz").write_bytes(whole[:600] + bytes([whole[600] ^ 255]) + whole[601:])
    (root / "text.npz").write_text("hello")
    (root / "nets.py").write_text(MODELS)
    (root / "lost.py").write_text("import a_module_that_is_not_there\n")
    (root / "slip.py").write_text("def good(:\n")
    for name, text in {
        "type": 'levels = "x"',
        "key": "levls = 3",
        "nested": "[optimizer]\nlrr = 1",
        "broken": "levels = = 3",
        "choice": 'search = "ipm"',
        "list": 'controls = "reinit"',
        "range": "rate = 1.5",
        "table": "optimizer = 3",
        "regression": 'data = "numbers.npz"\nmodel = "mlp"\nloss = "mean-squared-error"\nnet = {hidden = [8]}',
    }.items():
        (root / f"{name}.toml").write_text(text)
    (root / "bytes.toml").write_bytes(b"\xff\xfe")
    (root / "folder.toml").mkdir()
    (root / "other").mkdir()
    (root / "other" / "thesis.txt").write_text("years of work")
    (root / "data" / "mnist").mkdir(parents=True)
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (root / "data" / "mnist" / f"{name}-ubyte.gz").write_bytes(b"half of a file")
    before = Path.cwd()
    os.chdir(root)
    try:
        with undrawn():
            good(*RUN, *NET, "--quiet")
        yield root
    finally:
        os.chdir(before)


CASES: dict[str, tuple[tuple[str, ...], str]] = {
    # names
    "no command": ((), "run, ls, show"),
    "command": (("rn",), "Unknown command 'rn'. Did you mean 'run'?"),
    "no recipe": (("run",), "Name a recipe first"),
    "flag first": (("run", "--levels", "1"), "Name a recipe first"),
    "recipe": (("run", "digits-lene"), "Unknown recipe 'digits-lene'. Did you mean 'digits-lenet'?"),
    "long recipe": (("run", LONG), "[...]"),
    "long data": ((*RUN, "--data", LONG), "[...]"),
    "flag": ((*RUN, "--levles", "1"), "Unknown flag '--levles'. Did you mean '--levels'?"),
    "many flags": ((*RUN, "--levles", "1", "--stepps", "2", "--foo"), "'--levels'"),
    "flag of a part": ((*RUN, "--lr", "1"), "Did you mean '--optimizer.lr'?"),
    "short flag": ((*RUN, "-x"), "Unknown flag '-x'"),
    "two dashes": ((*RUN, "--"), "Unknown flag '--'"),
    "flag of a file": ((*RUN, "--name", "x"), "Unknown flag '--name'"),
    "flag of report": (("report", "0", "--storr", "x"), "Did you mean '--store'?"),
    "flag of gc": (("gc", "--dorp", "x"), "Did you mean '--drop'?"),
    "position": (("ls", "here"), "Unexpected argument 'here'"),
    "second position": (("show", "a", "b"), "Unexpected argument 'b'"),
    "no position": (("report",), "EXPERIMENT is missing: tombola report EXPERIMENT"),
    "two values": ((*RUN, "--steps", "5", "6"), "Unexpected argument '6' after --steps, which takes a whole number"),
    "no value": ((*RUN, "--rate"), "--rate has no value; expected a number"),
    "one of two": ((*RUN, "--optimizer.betas", "0.9"), "--optimizer.betas is 0.9; expected 2 numbers"),
    "value of a switch": ((*RUN, "--quiet=yes"), "--quiet takes no value; got 'yes'"),
    "choice": ((*RUN, "--search", "imq"), "--search is 'imq'; expected one of imp, oneshot, gradual"),
    "nearest choice": ((*RUN, "--controls", "shuffld"), "Did you mean 'shuffled'?"),
    "optimizer": ((*RUN, "--optimizer.name", "adm"), "Did you mean 'adam'?"),
    "word for a number": ((*RUN, "--levels", "three"), "--levels is 'three'; expected a whole number"),
    "fraction for a whole": ((*RUN, "--levels", "1.5"), "--levels is '1.5'; expected a whole number"),
    "workers None": ((*RUN, "--workers", "None"), "--workers is 'None'; expected a whole number"),
    "many workers": ((*RUN, "--workers", 100_000), "workers is 100000; expected a whole number from 1 to"),
    "many threads": ((*RUN, "--threads", 100_000), "threads is 100000; expected a whole number from 1 to"),
    "data": ((*RUN, "--data", "digts"), "Did you mean 'digits'?"),
    "normalise": ((*RUN, "--normalise", "unt"), "Did you mean 'unit'?"),
    "score-at": ((*RUN, "--score-at", "ends"), "Did you mean 'end'?"),
    "output layer": ((*RUN, "--output-layer", "output"), "Did you mean 'output.weight'?"),
    "protect": ((*RUN, "--protect", "fc1.weigh"), "Did you mean 'fc1.weight'?"),
    "device": ((*RUN, "--device", "gpu"), "device 'gpu' cannot be used"),
    "engine": ((*RUN, "--engine", "natve"), "--engine is 'natve'; expected one of auto, native, torch. Did you mean"),
    "engine that does not fit": (
        (*RUN, "--engine", "native"),
        "cannot train this: these are tests of the reference loop. Use --engine auto.",
    ),
    "missing GPU": ((*RUN, "--device", "cuda:99"), "device 'cuda:99' cannot be used"),
    "stack": ((*RUN, "--stack", "many"), "--stack is 'many'; expected a whole number or auto"),
    "stack of none": ((*RUN, "--stack", "0"), "stack is 0; expected a whole number, 1 or more, or auto"),
    "stack and workers": ((*RUN, "--stack", "2", "--workers", "2"), "a stack trains in one process: workers 1"),
    "stack and engine": ((*RUN, "--stack", "2", "--engine", "torch"), "trains one fit at a time; use engine auto"),
    "capture": ((*RUN, "--capture", "of"), "--capture is 'of'; expected one of auto, on, off"),
    "engine in a dry run": ((*RUN, "--engine", "native", "--dry-run"), "Use --engine auto."),
    "experiment": (("report", "zz", "--store", "store"), "No experiment in store begins with 'zz'"),
    "exported": (("export", "zz", "--csv", "-", "--store", "store"), "No experiment"),
    "dropped": (("gc", "--drop", "zz", "--store", "store"), "No experiment"),
    "shown": (("show", "digits-lene", "--store", "store"), "Did you mean 'digits-lenet'?"),
    "shown nowhere": (("show", "digits-lene"), "Did you mean 'digits-lenet'?"),
    # numbers
    "rate 0": ((*RUN, "--rate", "0"), "rate is 0.0; expected a fraction above 0 and below 1"),
    "rate 1": ((*RUN, "--rate", "1"), "rate is 1.0"),
    "rate below 0": ((*RUN, "--rate", "-0.5"), "rate is -0.5"),
    "rate nan": ((*RUN, "--rate", "nan"), "rate is nan"),
    "rate too small": ((*RUN, "--rate", "1e-9"), "At level 1 nothing is left to remove"),
    "output factor": ((*RUN, "--output-factor", "2"), "output_factor is 2.0"),
    "lr nan": ((*RUN, "--optimizer.lr", "nan"), "optimizer.lr is nan; expected a finite number above 0"),
    "lr below 0": ((*RUN, "--optimizer.lr", "-1"), "optimizer.lr is -1.0"),
    "lr 0": ((*RUN, "--optimizer.lr=0"), "optimizer.lr is 0.0"),
    "dropout": ((*RUN, "--net.dropout", "1"), "dropout"),
    "momentum of adam": ((*RUN, "--optimizer.momentum", "0.9"), "belong to sgd"),
    "milestones": ((*RUN, "--lr-schedule.milestones", "3"), "need each other"),
    "smoothing": ((*RUN, "--label-smoothing", "1"), "label_smoothing is 1.0"),
    **{
        f"{name} {value}": ((*RUN, f"--{name}", value), f"{name.replace('-', '_')} is {value}; expected a whole number")
        for name in ("steps", "levels", "replicates", "draws", "workers", "threads", "eval-every", "batch-size")
        for value in ("0", "-1")
    },
    "too many levels": ((*RUN, "--levels", "60"), "nothing is left to remove"),
    "far too many levels": ((*RUN, "--levels", "2000000000"), "nothing is left to remove"),
    "an empty layer": ((*RUN, *NET, "--rate", "0.999", "--levels", "2"), "Level 2 would empty 'fc1.weight'"),
    "rewind": ((*RUN, "--rewind-to", "5"), "rewind_to is 5, but a training has 5 steps; expected 0 to 4"),
    "rewind below 0": ((*RUN, "--rewind-to", "-1"), "rewind_to is -1"),
    "rewind in a short search": ((*RUN, "--search-steps", "2", "--rewind-to", "3"), "rewind_to is 3"),
    "score too late": ((*RUN, "--score-at", "6"), "score_at is step 6; expected 0 to 5"),
    "score before": ((*RUN, "--score-at", "-1"), "score_at is '-1'"),
    "search steps": ((*RUN, "--search-steps", "6"), "search_steps is 6"),
    "validation": ((*RUN, "--validation", "5000"), "5000 validation examples asked for, out of 1347"),
    "checkpoints": ((*RUN, "--checkpoint-seconds", "nan"), "checkpoint_seconds is nan"),
    "hidden": ((*RUN, "--net.hidden", "30"), "use --model mlp"),
    # data
    **{
        f"data {name}": ((*RUN, "--data", f"{name}.npz"), words)
        for name, words in {
            "nan": "x_train holds nan at index (3, 2)",
            "short": "x_train has 80 examples but y_train has 79",
            "label": "y_test holds label 3 at index 3",
            "negative": "y_train holds label -1 at index 0",
            "objects": "pickled Python objects",
            "empty": "holds nothing",
            "words": "y_train has dtype",
            "dark": "largest value 0; 'unit' divides by it",
            "lacking": "lacks y_train, x_test, y_test",
            "cut": "damaged or no .npz file",
            "altered": "damaged or no .npz file",
            "text": "is no .npz file",
            "missing": "does not exist",
            "numbers": "use --loss mean-squared-error",
        }.items()
    },
    "floats as pixels": ((*FLAT, "--normalise", "pixel"), "'pixel' needs uint8"),
    "data of one array": ((*RUN, "--data", "single.npy"), "holds a single array"),
    "data is a folder": ((*RUN, "--data", "other"), "'other' is neither a known data set nor a file"),
    "damaged MNIST": (("run", "mnist-lenet", *SMALL, "--store", "store"), "truncated or altered"),
    "data folder": (("run", "mnist-lenet", *SMALL, "--data-dir", "nowhere"), "nowhere does not exist"),
    # networks
    **{
        f"model {model}": ((*FLAT, "--model", model), words)
        for model, words in {
            "nets:narrow": "does not fit the 3 classes: got (2, 2) for 2 inputs, expected (2, 3)",
            "nets:Tuple": "got tuple for 2 inputs",
            "nets:Unprunable": "has no prunable weight",
            "nets:nothing": "returned a NoneType; expected a torch.nn.Module",
            "nets:raises": "RuntimeError: no luck today (nets.py, line",
            "nets:ends": "SystemExit: 3",
            "nets:needs": "missing 1 required positional argument: 'width'",
            "nets:number": "is a int; expected a function or class",
            "nets:goood": "Did you mean 'good'?",
            "net:good": "Did you mean 'nets:good'?",
            "nets.py:good": "Did you mean 'nets:good'?",
            "nowhere:x": "No module named 'nowhere'",
            "lost:x": "No module named 'a_module_that_is_not_there' (lost.py, line 1)",
            "slip:good": "SyntaxError",
            "nets:": "not of the form package.module:factory",
            "lenet-300": "Did you mean 'lenet-300-100'?",
        }.items()
    },
    "images into features": (
        (*RUN, "--data", "images.npz", "--model", "nets:good"),
        "cannot read inputs of shape (2, 1, 4, 4)",
    ),
    # files
    "recipe file missing": (("run", "missing.toml"), "missing.toml cannot be read"),
    "recipe file is a folder": (("run", "folder.toml"), "Is a directory"),
    "recipe file of bytes": (("run", "bytes.toml"), "bytes.toml is no TOML"),
    "recipe file broken": (("run", "broken.toml"), "broken.toml is no TOML: Invalid value (at line 1, column 10)"),
    "recipe file type": (("run", "type.toml"), "type.toml: levels is 'x'; expected a whole number"),
    "recipe file key": (("run", "key.toml"), "key.toml: unknown key 'levls'. Did you mean 'levels'?"),
    "recipe file nested": (("show", "nested.toml"), "optimizer: unknown key 'lrr'. Did you mean 'lr'?"),
    "recipe file choice": (("run", "choice.toml"), "search is 'ipm'. Did you mean 'imp'?"),
    "recipe file list": (("run", "list.toml"), "controls is 'reinit'; expected a list"),
    "recipe file range": (("run", "range.toml"), "range.toml: rate is 1.5; expected a fraction"),
    "recipe file table": (("run", "table.toml"), "optimizer is 3; expected a table"),
    "json in no folder": ((*RUN, "--json", "nowhere/x.json"), "The folder of nowhere/x.json does not exist"),
    "json is a folder": ((*RUN, "--json", "other"), "other is a directory"),
    "page in no folder": ((*RUN, "--page", "nowhere/x.html"), "The folder of nowhere/x.html does not exist"),
    "json over page": ((*RUN, "--page", "x", "--json", "./x"), "the same file"),
    "two to the screen": (("export", "0", "--csv", "-", "--json", "-", "--store", "store"), "the same file"),
    "nothing to export": (("export", "0", "--store", "store"), "Say what to write"),
    **{
        f"{command[0]} json": ((*command, "--json", "nowhere/x", "--store", "store"), "does not exist")
        for command in (("ls",), ("show", "0"), ("report", "0"), ("export", "0"), ("gc",))
    },
    **{
        f"{command[0]} in {store}": ((*command, "--store", store), words)
        for command in (
            ("ls",),
            ("report", "0"),
            ("export", "0", "--csv", "-"),
            ("gc",),
            ("run", "digits-lenet", *SMALL),
        )
        for store, words in (
            ("flat.npz", "flat.npz is a file"),
            ("flat.npz/deep", "flat.npz is a file"),
            ("other", "holds other files (thesis.txt)"),
        )
    },
    "dry run in a file": ((*RUN, "--dry-run", "--store", "flat.npz"), "is a file"),
    # leagues
    "league of no recipe": (("league", "--recipe", "digits-lene"), "Did you mean 'digits-lenet'?"),
    "league of no division": (("league", "--divisions", "criteri"), "Did you mean 'criteria'?"),
    "league twice": (("league", "--divisions", "resets", "resets"), "'resets' is named twice"),
    "league upwards": (("league", "--densities", "0.1", "0.2"), "densities go from 0.1 to 0.2"),
    "league of all weights": (("league", "--densities", "1"), "densities is 1.0; expected a fraction"),
    "league of words": (("league", "--densities", "few"), "--densities is 'few'; expected numbers"),
    **{
        f"league {name} {value}": (("league", f"--{name}", value), f"{name} is {value}; expected a whole number")
        for name in ("steps", "replicates", "workers")
        for value in ("0", "-1")
    },
    "league of numbers": (
        ("league", "--recipe", "regression.toml", "--densities", "0.5", "--store", "store"),
        "A league ranks by accuracy; regression measures mean squared error.",
    ),
    "league in a file": (("league", "--store", "flat.npz"), "flat.npz is a file"),
    "league json": (("league", "--json", "nowhere/x.json"), "The folder of nowhere/x.json does not exist"),
    "no store": (("ls", "--store", "nowhere"), "There is no store at nowhere"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_answered(name: str, place: Path) -> None:
    arguments, words = CASES[name]
    before = files(place)
    called = call(*arguments)
    assert called.code == 2, called
    assert words in called.err
    assert called.err.startswith("tombola: ") and "Traceback" not in called.err and len(called.lines) <= LINES
    assert called.out == ""
    after = files(place)
    assert {
        name for name in before | after if before.get(name) != after.get(name) and "__pycache__" not in name
    } == set()
