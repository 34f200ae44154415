# Everything needs only python3 (3.11 or later), make and git. `make setup` runs by itself when it is needed.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help setup demo up test format lint types unit integration faults sdk lock clean

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | column -t -s "$$(printf '\t')"

setup: $(READY)  ## make .venv with everything installed from the lock

$(READY): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Stenopool needs Python 3.11 or later, this is " + sys.version.split()[0] + "; set PYTHON=python3.11 or later")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(READY)  ## transcribe two recordings with everything on this machine, then stop it all
	@$(BIN)/python examples/demo.py

up: $(READY)  ## the whole stack in the foreground: Valkey, emulator, worker, Flower on port 5555; Ctrl-C stops it
	@export PATH="$(CURDIR)/$(BIN):$$PATH" \
	  STENOPOOL_AUDIO_ROOTS="$${STENOPOOL_AUDIO_ROOTS:-$$($(BIN)/python -c 'import moonshine_voice; print(moonshine_voice.get_assets_path())')}"; \
	exec $(BIN)/honcho -e examples/emulator.env start

test: format lint types unit integration faults sdk  ## everything CI runs

format: $(READY)
	$(BIN)/ruff format --check .

lint: $(READY)
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy

# Each layer names its folder: pytest fails when the folder is missing or holds no test.
PYTEST = $(BIN)/coverage run --parallel-mode -m pytest -q

unit: $(READY)  ## no sockets but to this machine, no other processes
	$(PYTEST) tests/config tests/worker/pool tests/worker/recognition tests/worker tests/tasks tests/cli tests/emulator tests/test_architecture.py

lock:  ## resolve the dependencies again and write both locks
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url --no-annotate --extra gevent pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url --no-annotate --all-extras pyproject.toml -o requirements-dev.lock

clean:  ## remove what was built
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage*
