# Everything starts here: `make` alone says what there is. Each target does its own set-up (deploy/setup.sh).
# ARGS="…" hands arguments on; PYTHON, ENGINE and APT are explained by `deploy/setup.sh --help`.
# Most tests wait for sound that takes its time: JOBS of them run at once, the tests of a file one after another.

SHELL := /bin/bash
BIN := $(or $(VENV),.venv)/bin
SETUP := deploy/setup.sh
ARGS ?=
JOBS ?= 3

.DEFAULT_GOAL := help
.PHONY: help setup demo run test lint format bench constraints image image-test clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## set up .venv: Python packages and the SIP engine
	@$(SETUP) run && echo "Ready: $(BIN)/sip-agent"

demo: ## one whole test run on this machine, no account needed
	@RETRY=no $(SETUP) run
	@$(BIN)/sip-agent demo $(ARGS)

run: ## run the agent (ARGS="--config sip-agent.toml")
	@RETRY=no $(SETUP) run
	@exec $(BIN)/sip-agent serve $(ARGS)

test: ## every check and every test (ARGS="tests/test_auth.py -k nonce")
	@$(SETUP) test
	@$(MAKE) --no-print-directory linters
	@echo "==> pytest"
	@$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile $(ARGS) </dev/null

lint: ## the checks alone: ruff, mypy, import contract
	@$(SETUP) dev
	@$(MAKE) --no-print-directory linters

.PHONY: linters
linters:
	@failed=""; \
	for check in "ruff check --quiet --output-format concise" "ruff format --check --quiet" "mypy" "lint-imports --no-logo"; do \
	  echo "==> $$check"; $(BIN)/$$check || failed="$$failed, $$check"; \
	done; \
	[[ -z $$failed ]] \
	  || { echo "Failed: $${failed#, }. 'make format' repairs what can be repaired by itself." >&2; exit 1; }

format: ## format the code and repair what ruff can repair
	@$(SETUP) dev
	@$(BIN)/ruff check --quiet --fix-only && $(BIN)/ruff format

bench: ## the benchmarks (minutes; never part of the tests)
	@$(SETUP) test
	@$(BIN)/python -m tests.bench $(ARGS)

constraints: ## pin the newest releases of all dependencies in constraints.txt
	@deploy/constraints.sh

image: ## build the container image (IMAGE=sip-agent)
	@deploy/image.sh

image-test: ## build the image from nothing and place a call to it (root, many minutes)
	@deploy/image-test.sh

clean: ## remove .venv and what tools left behind; built engines stay in ~/.cache/sip-agent
	@rm -rf $(or $(VENV),.venv) .setup-stamp* build dist *.egg-info
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
