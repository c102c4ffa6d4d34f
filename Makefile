# The two commands of the README, and what they stand on. Everything happens in .venv.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
WORKERS ?= 3
FAST_WORKERS ?= 2
STUDY ?= jobs/studies/quickstart.yaml

.PHONY: help quickstart demo bench test test-fast test-faults fuzz check lint types format audit ui clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

quickstart: $(READY)  ## run the quickstart study (about five minutes on two cores, once everything is fetched)
	$(BIN)/python -m jobs.study $(STUDY)

demo: $(READY)  ## run a study of the model that comes with softprior (nothing to fetch, under a minute)
	$(BIN)/python -m jobs.study jobs/studies/demo.yaml

test: $(READY)  ## run the whole test suite, in three processes (one of them mostly waits for Ray)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder --durations 25

test-fast: $(READY)  ## run what needs neither Ray nor the network, without slow files: about two minutes
	$(BIN)/python -m pytest -n $(FAST_WORKERS) --dist loadscope --no-loadscope-reorder -m "not ray and not network and not faults and not slow"

test-faults: $(READY)  ## run the long tests too, which kill things for minutes
	$(BIN)/python -m pytest -m faults

fuzz: $(READY)  ## give our own parsers new input for ten minutes, guided by coverage
	$(BIN)/python -m tests.hostile.fuzz $(FUZZ)

bench: $(READY)  ## run the benchmarks, keep their results and renew docs/performance.md
	$(BIN)/python -m benchmarks $(BENCH)

check: lint types test  ## everything CI runs

lint: $(READY)  ## ruff: lint and format, without changing a file
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)  ## mypy
	$(BIN)/mypy

audit: .audit/.ready  ## fail on known holes in requirements.lock, and say where no service knows
	.audit/bin/python .ci/audit.py .audit/bin/pip-audit

.audit/.ready:
	$(PYTHON) -m venv .audit
	.audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	@touch $@

format: $(READY)  ## rewrite files the way `lint` wants them
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

ui: $(READY)  ## MLflow's pages on the results
	$(BIN)/python -m jobs.ui

clean:  ## remove the environment; results and the cache stay
	rm -rf .venv .audit

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"softprior needs Python 3.11 or newer, and $(PYTHON) is {v[0]}.{v[1]}; name another with: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e ".[dev]"
	@touch $@
