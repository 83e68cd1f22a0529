# `make test` does everything (`make demo` comes with the next step). It calls `make setup` first; repeated, that takes
# no time.
PYTHON ?= python3
BIN := .venv/bin
REPEAT ?= 1
OUT ?= out

.PHONY: help setup test bench lint clean

help:
	@echo "make setup   the virtual environment and, as root, the programs of the bench"
	@echo "make test    everything: lint, types, architecture, simulation, adapters, and the kernel bench where it may"
	@echo "make bench   every scenario once (REPEAT=n for more), and a table"

setup: .venv/.installed
	@tests/setup-programs

.venv/.installed: requirements-dev.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	touch $@

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	tests/run-all

bench: setup
	$(BIN)/python -m hil bench --repeat $(REPEAT) --json $(OUT)/bench.json

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist out *.egg-info
