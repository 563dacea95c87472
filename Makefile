# Pandawn: one command for each thing a developer or newcomer does. `make help` lists them.
#
# Needs git, make and Python 3.11 or newer; everything else is fetched into .venv (and .uv, where uv is missing).

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
# A half-written target would look finished to the next run.
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules
# The environment is .venv, whatever else the caller has active.
unexport PYTHONHOME PYTHONPATH VIRTUAL_ENV

BOOTSTRAP := tools/dev/bootstrap.sh
BIN := .venv/bin
VENV := .venv/.stamp
# What a person writes in Python; generated/ is checked by comparison instead.
SOURCES := server pilot_client tools tests
ARGS ?=

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(VENV): pyproject.toml pilot_client/pyproject.toml requirements.lock $(BOOTSTRAP) tools/dev/uv-requirements.txt
	@$(BOOTSTRAP) venv

.PHONY: venv
venv: $(VENV) ## Build .venv from the lock file, if it is out of date

.PHONY: demo
demo: $(VENV) ## Run the demo: a server, three nodes, a real analysis (options in ARGS="...")
	@$(BIN)/pandawn demo $(ARGS)

.PHONY: test
test: $(VENV) ## Run all tests, with real PostgreSQL, memcached and XRootD (pytest options in ARGS="...")
	@tools/dev/require_services.sh
	@$(BIN)/python tools/dev/run_tests.py $(ARGS)

.PHONY: bench
bench: $(VENV) ## Measure a server on PostgreSQL and memcached (options in ARGS="...")
	@tools/dev/require_services.sh postgresql memcached
	@$(BIN)/pandawn bench $(ARGS)

.PHONY: services
services: $(VENV) ## Start a throw-away PostgreSQL and memcached, print their addresses, stop them on Ctrl-C
	@$(BIN)/python -m tools.dev.services $(ARGS)

.PHONY: check
check: $(VENV) ## Run every static check: style, types, layers, contracts, stubs, file lengths
	@$(BIN)/python tools/dev/check.py

.PHONY: fmt
fmt: $(VENV) ## Format the code and the contracts, and mend what ruff can mend
	@$(BIN)/ruff check --quiet --fix-only $(SOURCES)
	@$(BIN)/ruff format --quiet $(SOURCES)
	@$(BIN)/buf format --write

.PHONY: stubs
stubs: $(VENV) ## Generate the Python stubs in generated/, docs/api.md, docs/parameters.md and the tables of docs/faults.md
	@$(BIN)/python tools/dev/generate_stubs.py
	@$(BIN)/python tools/dev/generate_api_reference.py
	@$(BIN)/python tools/dev/fault_table.py

.PHONY: lock
lock: ## Remake the lock files with the newest versions that pyproject.toml allows
	@for pair in "pyproject.toml --all-extras --group dev:requirements.lock" \
	    "pyproject.toml tools/dev/site-requirements.in --extra server --extra cli --constraint requirements.lock:requirements-site.lock" \
	    "tools/dev/uv-requirements.in:tools/dev/uv-requirements.txt"; do \
	    $(BOOTSTRAP) uv pip compile $${pair%%:*} --quiet --upgrade --universal --python-version 3.11 \
	        --generate-hashes --no-emit-package pandawn-pilot --no-emit-index-url --no-emit-find-links \
	        --custom-compile-command "make lock" --output-file $${pair##*:}; \
	done

.PHONY: clean
clean: ## Remove everything that make and the tools have made
	@rm -rf .venv .uv .tools .python39 .python39.lock build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find $(SOURCES) generated -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
