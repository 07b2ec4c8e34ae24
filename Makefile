.DEFAULT_GOAL := help
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# Everything below needs the virtual environment; it is made when it is missing or out of date.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	@echo "installing archsearch and PyTorch into $(VENV), about 6 GB"
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m compileall -q archsearch
	@touch $@

.PHONY: setup
setup: $(VENV)/.installed ## make .venv and install everything

.PHONY: demo
demo: setup ## a search on generated images, to a leaderboard; about two minutes
	$(BIN)/archsearch search demo --trials 4
	@echo 'next: "source $(BIN)/activate", then "archsearch report studies/demo" or "make test"'

# One pytest process per core; each keeps to neighboring tests, which share their fixtures.
PYTEST := $(BIN)/pytest -n auto --dist worksteal

.PHONY: test
test: check ## all checks, and all tests but the slow ones

.PHONY: test-all
test-all: check test-slow ## all checks and tests

.PHONY: test-slow
test-slow: setup ## what trains, drills or runs a cluster; 2,000 random specs per property
	$(PYTEST) -m slow
	ARCHSEARCH_EXAMPLES=2000 $(PYTEST) -m property

.PHONY: check
check: lint types ## before each commit: style, types, architecture, all tests but the slow ones
	$(PYTEST) -m "not slow"

.PHONY: lint
lint: setup ## style and architecture
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

.PHONY: types
types: setup ## mypy
	$(BIN)/mypy

.PHONY: format
format: setup ## rewrite what style can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: golden
golden: setup ## rewrite golden tables; review the diff
	$(BIN)/pytest tests/cli/test_validate.py tests/convert/test_to_pytorch.py tests/convert/test_diagram.py tests/test_widths.py --overwrite
