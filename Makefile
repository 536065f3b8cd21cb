# Every target says what it does after "##"; `make` alone prints them.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
JOBS   ?= 2
ARGS   ?=

VENV := .venv
BIN  := $(VENV)/bin
PY   := $(BIN)/python

# What `make check` runs: quick, no service needed. `make test` runs all of tests/.
QUICK := $(wildcard tests/unit tests/laws tests/promises)
# Alembic executes these files itself; they cannot be imported on their own.
UNIMPORTABLE := --ignore-glob='*/migrations/*'

.PHONY: help venv demo test check format lint layers types quick docs bench clean lock all

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

all: test docs ## everything: check, every test, and the generated docs

venv: $(VENV)/.installed ## create .venv from requirements.lock (every target does so when needed)

demo: venv ## run the demonstration, e.g. make demo ARGS="--days 90"
	$(BIN)/everfit demo $(ARGS)

check: format lint layers types quick ## format, lint, layers, types, doctests, quick tests: under a minute

# The workers fill the cores, and threads of OpenMP wait for each other by spinning: a module of trained models took 13 s
# of CPU instead of 5. The product's own children train with one thread, too.
test quick: export OMP_NUM_THREADS = 1

# worksteal: a worker keeps to neighbouring tests, so that what a module prepares (a database, a trained model) is
# prepared once; and what is left of a worker's half goes to the other one.
test: format lint layers types ## everything that check does, and all of tests/: stories, ports, crash and acceptance too
	$(PY) -m pytest -n $(JOBS) --dist worksteal --doctest-modules $(UNIMPORTABLE) src tests $(ARGS)

format: venv ## is the code formatted?
	$(BIN)/ruff format --check .

lint: venv ## ruff's rules
	$(BIN)/ruff check .

layers: venv ## imports run downward only
	$(BIN)/lint-imports --no-logo

types: venv ## mypy, strict
	$(BIN)/mypy

# Frames of a few rows gain nothing from threads of polars.
quick: venv ## doctests, unit tests, laws of few examples, promises; not the stories and simulations
	POLARS_MAX_THREADS=1 $(PY) -m pytest -n $(JOBS) --dist worksteal -m "not simulation and not story" \
	  --hypothesis-profile=quick --doctest-modules $(UNIMPORTABLE) src $(QUICK) $(ARGS)

docs: venv ## write the generated pages of docs/
	$(PY) docs/generate.py

bench: venv ## run each file of benchmarks/
	@set -e; for file in $(sort $(wildcard benchmarks/[a-z]*.py)); do echo "== $$file"; $(PY) $$file $(ARGS); done

clean: ## remove .venv, caches and build results
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist everfit-demo
	find src tests benchmarks docs -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# Keeps the versions already locked; `make lock ARGS=--upgrade` takes the newest allowed.
lock: $(BIN)/uv ## resolve pyproject.toml into requirements.lock
	$(PY) -m uv pip compile --quiet --universal --python-version 3.11 --all-extras --generate-hashes \
	  --no-header --no-annotate --no-emit-index-url --no-emit-find-links $(ARGS) \
	  pyproject.toml -o requirements.lock

# Two stamps, so that an edit of pyproject.toml alone does not walk through the whole lock again.
$(VENV)/.installed: $(VENV)/.locked pyproject.toml
	$(PY) -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.locked: requirements.lock | $(PY)
	$(PY) -m pip install --quiet --require-hashes -r requirements.lock
	@touch $@

$(BIN)/uv: | $(PY)
	$(PY) -m pip install --quiet uv

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Everfit needs Python 3.11 or newer; say which: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
