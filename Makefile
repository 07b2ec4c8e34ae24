.DEFAULT_GOAL := help
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin

.PHONY: help
help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# Everything below needs the virtual environment; it is made when it is missing or out of date.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m compileall -q archsearch
	@touch $@

.PHONY: setup
setup: $(VENV)/.installed ## make .venv and install everything

.PHONY: demo
demo: setup ## a search on generated images, to a leaderboard; about two minutes
	$(BIN)/archsearch search demo --trials 4

.PHONY: test
test: check ## all checks and tests
	$(BIN)/pytest -m slow
	ARCHSEARCH_EXAMPLES=2000 $(BIN)/pytest -m property

.PHONY: check
check: lint types ## before each commit: style, types, architecture, all but the slow tests
	$(BIN)/pytest -m "not slow"

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
	$(BIN)/pytest tests/cli/test_validate.py tests/convert/test_to_pytorch.py tests/convert/test_diagram.py --overwrite
