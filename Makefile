# Everything needs only python3 (3.11 or later), make and git. `make setup` runs by itself when it is needed.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.NOTPARALLEL:  # some layers run plain Python, others what was compiled, in one folder
.PHONY: help setup plain compiled demo up web bench test format lint types erase unit sdk integration faults browser coverage lock clean

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | column -t -s "$$(printf '\t')"

setup: $(READY)  ## make .venv with everything installed from the lock

$(READY): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Stenopool needs Python 3.11 or later, this is " + sys.version.split()[0] + "; set PYTHON=python3.11 or later")'
	@echo "installing into $(VENV), about a minute ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# A compiled module stands beside its source and is taken instead of it. Each target says which of the two it runs.
EXTENSIONS = worker/recognition/*.so tasks/audio/*.so

plain: $(READY)  ## run as plain Python, which needs no C compiler
	@rm -f $(EXTENSIONS)

compiled: $(READY)  ## run the way of a chunk as C extensions, made of the same sources: less CPU and memory a stream
	@$(BIN)/python -c 'import pathlib, sys, sysconfig; sys.exit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").exists() and "compiling needs the headers of Python: apt install python3-dev, or make plain")'
	@rm -f $(EXTENSIONS)
	@STENOPOOL_COMPILE=1 $(BIN)/python setup.py --quiet build_ext --inplace

demo: plain  ## transcribe two recordings with everything on this machine, then stop it all
	@$(BIN)/python examples/demo.py

STACK = export PATH="$(CURDIR)/$(BIN):$$PATH" PYTHONUNBUFFERED=1 DASHSCOPE_API_KEY=emulator \
	  VALKEY_PORT="$${VALKEY_PORT:-6379}" EMULATOR_PORT="$${EMULATOR_PORT:-8095}"; \
	export STENOPOOL_REDIS_URL="redis://127.0.0.1:$$VALKEY_PORT/0" \
	  DASHSCOPE_WEBSOCKET_BASE_URL="ws://127.0.0.1:$$EMULATOR_PORT/api-ws/v1/inference" \
	  DASHSCOPE_HTTP_BASE_URL="http://127.0.0.1:$$EMULATOR_PORT/api/v1" \
	  STENOPOOL_AUDIO_ROOTS="$${STENOPOOL_AUDIO_ROOTS:-$$(python -c 'import moonshine_voice; print(moonshine_voice.get_assets_path())')}"

up: plain  ## the whole stack in the foreground: Valkey, emulator, worker, Flower on port 5555; Ctrl-C stops it
	@$(STACK); honcho -e /dev/null start || [ $$? -eq 130 ]

web: plain  ## the example's web app on http://127.0.0.1:8000, with all that it needs; Ctrl-C stops it
	@$(STACK); export WEB_PORT="$${WEB_PORT:-8000}" WORKER_POOL="$${WORKER_POOL:-threads}" \
	  WORKER_CONCURRENCY="$${WORKER_CONCURRENCY:-8}"; \
	export WEBAPP_UPLOADS="$$(mktemp -d)"; trap 'rm -rf "$$WEBAPP_UPLOADS"' EXIT; \
	export STENOPOOL_AUDIO_ROOTS="$$STENOPOOL_AUDIO_ROOTS:$$WEBAPP_UPLOADS"; \
	honcho -e /dev/null -d . -f <(cat Procfile examples/webapp/Procfile) start valkey emulator worker web || [ $$? -eq 130 ]

BENCHES = first_word sizes streams growth files jobs trips start quota quota_cost http_reuse

bench: $(addprefix bench-,$(BENCHES))  ## every benchmark, each against its baseline in the same run; tables in bench/results

bench-%: compiled  # make bench-first_word runs one
	@$(BIN)/python -m bench.$*

# Each layer names its folders: pytest fails when one is missing or holds no test, so no layer can go missing unseen.
PYTEST = $(BIN)/coverage run --parallel-mode -m pytest -q
UNIT = tests/config tests/worker tests/tasks tests/cli tests/emulator tests/bench tests/test_architecture.py tests/test_docs.py tests/test_exports.py
SDK = tests/emulator/test_sdk.py
BY_FILE = COVERAGE_FILE=.coverage.$@ $(BIN)/pytest -q --numprocesses 2 --dist loadfile --cov --cov-report=

test: TABLE =  # a test changes no file
test: format lint types erase unit sdk browser faults integration coverage  ## everything that CI runs
	@echo "all layers passed: format lint types unit sdk browser faults integration coverage"

format: $(READY)
	$(BIN)/ruff format --check .

lint: $(READY)
	$(BIN)/ruff check .

types: $(READY)  # the two at the same time, each with a cache of its own
	$(BIN)/mypy & ours=$$!; \
	$(BIN)/mypy --cache-dir .mypy_cache/tests --explicit-package-bases --allow-untyped-defs --allow-untyped-calls --allow-incomplete-defs docker examples tests; theirs=$$?; \
	wait $$ours && exit $$theirs

erase:
	@rm -f .coverage .coverage.*

unit: plain  ## each module by itself, the emulator and a real Valkey beside it
	$(BY_FILE) $(UNIT) --ignore=$(SDK)

sdk: plain  ## the official dashscope SDK against the emulator
	$(PYTEST) $(SDK)

integration: compiled  ## real workers, compiled, under prefork, threads, gevent and solo; real speech; command line; Flower
	$(BY_FILE) tests/integration

browser: plain  ## the example's web app, driven by Chromium against a real worker; SHOTS=folder keeps pictures of it
	@command -v chromium >/dev/null || { \
	  [ "$$(id -u)" -eq 0 ] || ! command -v sudo >/dev/null || sudo="sudo -n"; \
	  command -v apt-get >/dev/null && $$sudo apt-get update -qq && $$sudo apt-get install -qq -y --no-install-recommends chromium; } || { \
	  echo "the browser test needs Chromium as a command named chromium: install it, on Debian with: apt install chromium"; exit 1; }
	$(BIN)/pytest -q --numprocesses 2 --dist loadfile tests/web $(if $(SHOTS),--web-shots $(SHOTS))

TABLE = --faults-table docs/faults.md

faults: plain  ## what the world can do to a job, and what becomes of it; writes the table in docs/faults.md
	$(BY_FILE) tests/faults $(TABLE)

coverage: $(READY)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --include='worker/pool/*,worker/recognition/*' --fail-under=100
	$(BIN)/coverage report --fail-under=97

lock:  ## resolve the dependencies again and write both locks
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --extra gevent --extra fast --extra oss --extra s3 --extra build pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --no-strip-extras --all-extras pyproject.toml -o requirements-dev.lock

clean:  ## remove what was built
	rm -rf $(EXTENSIONS) $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage*
