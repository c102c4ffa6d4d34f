# The two commands of the README, and what they stand on. Everything happens in .venv.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
WORKERS ?= 3
FAST_WORKERS ?= 2
STUDY ?= jobs/studies/quickstart.yaml
LONG := tests/activations/test_passes_in_turns.py tests/analysis/figures/test_activations.py \
  tests/models/test_encoder_decoder.py tests/models/test_encoder_decoder_contract.py tests/models/test_hosted.py \
  tests/models/test_lanes.py tests/models/test_local_contract.py tests/models/test_sharded.py \
  tests/priors/test_vae.py \
  tests/studies/test_own_components.py tests/test_call_path.py tests/test_shapes.py \
  tests/tracking/test_mlflow_tracker.py tests/training/test_trial.py

.PHONY: help quickstart demo bench test test-fast test-long test-faults fuzz check lint types format audit ui clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

quickstart: $(READY)  ## run the quickstart study (about five minutes on two cores, once everything is fetched)
	$(BIN)/python -m jobs.study $(STUDY)

demo: $(READY)  ## run a study of the model that comes with softprior (nothing to fetch, under a minute)
	$(BIN)/python -m jobs.study jobs/studies/demo.yaml

test: $(READY)  ## run the test suite without its long tests, in three processes (one of them mostly waits for Ray)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder --durations 25

test-fast: $(READY)  ## run what needs neither Ray nor the network, without slow files: about two minutes
	$(BIN)/python -m pytest -n $(FAST_WORKERS) --dist loadscope --no-loadscope-reorder -m "not ray and not network and not faults and not slow"

test-long: $(READY)  ## run the long tests that CI runs: contracts of all families, two ranks, what the pages say
	$(BIN)/python -m pytest -m faults -n 2 --dist loadscope --no-loadscope-reorder $(LONG)

test-faults: $(READY)  ## run all long tests, which kill things for minutes
	$(BIN)/python -m pytest -m faults

fuzz: $(READY)  ## give our own parsers new input for ten minutes, guided by coverage
	$(BIN)/python -m tests.hostile.fuzz $(FUZZ)

bench: $(READY)  ## run the benchmarks, keep their results and renew docs/performance.md
	$(BIN)/python -m benchmarks $(BENCH)

check: lint types test test-long audit  ## everything CI runs

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
