# Needs make, and Python 3.11 or later with venv and pip. Everything else goes into .venv.
PYTHON ?= $(shell scripts/pythons | head -n 1)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
# Two at once, a file's tests in one process: they share what they start.
TWO := --numprocesses 2 --dist loadfile
OTHERS := $(filter-out $(PYTHON),$(shell scripts/pythons))

.PHONY: demo serve test test-all lint unit others fuzz fuzz-short chaos storm mutants bench budget memory soak hostile clean
.DELETE_ON_ERROR:

demo: $(VENV)/.examples ## both examples as real servers, and what becomes of a few requests
	$(BIN)/python examples/demo.py

serve: $(VENV)/.examples ## the FastAPI example on http://127.0.0.1:8000, to play with
	$(BIN)/python -m uvicorn --app-dir examples/fastapi_app app:app

test: lint unit budget fuzz-short others ## everything that has to pass

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

unit: $(VENV)/.dev
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(TWO)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under=100

test-all: ## the same, with every test on every Python; longer than a quarter of an hour
	$(MAKE) lint unit fuzz-short others SELECTED=

SELECTED ?= -m "not once"
others: ## the same tests, but for those of servers, on every other Python from 3.11 to 3.13 that is here
	@set -e; for python in $(OTHERS); do \
	    version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	    echo "Python $$version"; \
	    $(MAKE) --no-print-directory VENV=.venv-$$version PYTHON=$$python .venv-$$version/.dev; \
	    .venv-$$version/bin/python -m pytest -q -p no:cacheprovider $(TWO) $(SELECTED); \
	done

MINUTES ?= 15
fuzz: $(VENV)/.dev ## two processes of fuzzing with the frameworks as judges; MINUTES or BODIES of each kind, and if you like SEED and KIND
	PYTHONPATH=tests $(BIN)/python -m fuzz --minutes $(MINUTES) $(addprefix --bodies ,$(BODIES)) \
	    $(addprefix --seed ,$(SEED)) $(addprefix --kind ,$(KIND))

fuzz-short: $(VENV)/.dev ## the same for about a minute, always with the same bodies
	PYTHONPATH=tests $(BIN)/python -m fuzz --bodies 30000 --seed 1

chaos: MINUTES = 10
chaos: $(VENV)/.dev ## real servers under load while the moderation service has every fault there is, for MINUTES (10)
	PYTHONPATH=tests $(BIN)/python -m chaos --minutes $(MINUTES) $(addprefix --seed ,$(SEED))

storm: $(VENV)/.dev ## eight processes with 1,000 strikes each against one subject, in SQLite and in Redis; two minutes
	STRIKES=1000 $(BIN)/python -m pytest -q -p no:cacheprovider tests/test_strikes.py -k eight_processes

mutants: $(VENV)/.mutants ## what reads, finds and matches, changed bit by bit: each change has to fail a test, or stand explained
	rm -rf mutants
	$(BIN)/mutmut run
	PYTHONPATH=tests $(BIN)/python -m survivors

# QUICK, WRITE and REQUESTS reach these from the command line through the environment.
BENCHMARK := PYTHONPATH=src:tests $(BIN)/python -m
bench: $(VENV)/.dev ## what moderation costs real servers, ours and by hand; writes benchmarks/RESULTS.md. QUICK=1 only prints. Needs wrk
	$(BENCHMARK) benchmarks.bench

budget: $(VENV)/.dev ## what a request costs, counted in instructions, against benchmarks/budgets.json; WRITE=1 writes them
	$(BENCHMARK) benchmarks.budget

memory: $(VENV)/.dev ## what 1,000 uploads at once take
	$(BENCHMARK) benchmarks.memory

soak: $(VENV)/.dev ## whether a server grows in REQUESTS (1,000,000) requests; half an hour or more. Needs wrk
	$(BENCHMARK) benchmarks.soak

hostile: $(VENV)/.dev ## what the nastiest bodies cost; writes benchmarks/HOSTILE.md
	$(BIN)/python benchmarks/hostile.py

clean:
	rm -rf mutants .venv .venv-* .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/.new:
	@test -n "$(PYTHON)" || { echo "prescreen needs Python 3.11 or later; none was found" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade "pip>=25.1"
	touch $@

$(VENV)/.examples: $(VENV)/.new pyproject.toml
	$(PIP) --editable '.[cli]' --group examples
	touch $@

$(VENV)/.dev: $(VENV)/.new pyproject.toml
	$(PIP) --editable '.[cli]' --group dev
	touch $@ $(VENV)/.examples

$(VENV)/.mutants: $(VENV)/.dev
	$(PIP) --group mutants
	touch $@
