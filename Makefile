# Everything a person or a machine does here. Each target sets up what it needs; `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EXTRAS ?= dev

.DEFAULT_GOAL := help
.PHONY: help install demo test lint types tests mutants bench bench-gpu docs clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml constraints.txt setup.py $(wildcard tombola/native/c/*)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (about a minute the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]' 2>&1 | grep -v '^WARNING: Location' || true
	@$(BIN)/python -c 'import tombola, torch, pytest'
	@$(BIN)/python -c 'from tombola.compiled import absent; print(absent() or "compiled kernels: built")'
	@touch $@

install: $(STAMP)  ## install into .venv, with the tombola command

demo: $(STAMP)  ## the main job on the embedded data: winning tickets in LeNet-300-100, with a page to open
	@$(BIN)/tombola run digits-lenet

test: lint types tests  ## lint, types, tests, doctests, examples

lint: $(STAMP)  ## ruff: style, annotations, formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)  ## mypy, strict
	$(BIN)/mypy

tests: $(STAMP)  ## pytest with warnings as errors, doctests and examples
	$(BIN)/python -m pytest tests -n auto --dist worksteal
	$(BIN)/python -m pytest --doctest-modules tombola -n auto --dist worksteal

mutants: $(STAMP)  ## put known mistakes back, one at a time, and see the tests fail
	$(BIN)/python tests/mutants.py

bench: $(STAMP)  ## the benchmarks that end in minutes, with their targets
	$(BIN)/python benchmarks/step.py
	$(BIN)/python benchmarks/native.py
	$(BIN)/python benchmarks/native_conv.py
	$(BIN)/python benchmarks/agreement.py
	$(BIN)/python benchmarks/enforce.py
	$(BIN)/python benchmarks/convolutions.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/select.py
	$(BIN)/python benchmarks/criteria.py
	$(BIN)/python benchmarks/workers.py
	$(BIN)/python benchmarks/motifs.py
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/kill_resume.py --runs 3
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python benchmarks/inference.py
	$(BIN)/python benchmarks/peers.py

bench-gpu: $(STAMP)  ## steps per second on a GPU: eager, recorded, stacked; and the agreement with the CPU
	$(BIN)/python benchmarks/gpu.py

docs: $(STAMP)  ## the documentation as pages in site/, which open from there
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "site/index.html"

clean:  ## remove the virtual environment and caches (never a store)
	rm -rf $(VENV) build site *.egg-info .mypy_cache .ruff_cache .pytest_cache
