# `make test` does everything. It calls `make setup` first; repeated, that takes no time. `make demo` needs the virtual
# environment only: it installs nothing else and is nobody's root.
PYTHON ?= python3
BIN := .venv/bin
REPEAT ?= 1
OUT ?= out

.PHONY: help demo setup test bench fuzz powercut docs wheels lint clean

help:
	@echo "make demo    a minute's look, without root: the agent, a virtual router, a line that dies and returns"
	@echo "make setup   the virtual environment and, as root, the programs of the bench"
	@echo "make test    everything: lint, types, architecture, simulation, adapters, and the kernel bench where it may"
	@echo "make wheels  dist/: all that install.sh needs, for x86-64 and ARM, Python 3.11 to 3.13"
	@echo "make bench   every scenario once (REPEAT=n for more), and a table"
	@echo "make fuzz    mutated input, N cases of each kind (1,000,000); make test does a share of it"
	@echo "make docs    manual page and completions anew from the commands, firmware-scripts from the rules"
	@echo "make powercut   N power cuts (1,000) of a real file system under the store; needs root"

setup: .venv/.installed
	@tests/setup-programs

.venv/.installed: requirements-dev.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	touch $@

demo: .venv/.installed
	@$(BIN)/python -m hil demo

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	tests/run-all

bench: setup
	$(BIN)/python -m hil bench --repeat $(REPEAT) --json $(OUT)/bench.json

fuzz: N ?= 1000000
fuzz: setup
	$(BIN)/python -m tests.fuzz.config --cases $(N)
	$(BIN)/python -m tests.fuzz.replies --cases $(N)
	$(BIN)/python -m tests.fuzz.dns --cases $(N)

docs: setup
	$(BIN)/python -m tests.generated
	$(BIN)/python -m tests.rendered

powercut: N ?= 1000
powercut: setup
	$(BIN)/python -m tests.powercut --cuts $(N)

wheels: setup
	provisioning/make-wheels dist

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist out *.egg-info
