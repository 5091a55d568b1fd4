PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_SECONDS ?= 120

.PHONY: help demo test test-all check format bench clean
.DEFAULT_GOAL := help

help:  ## say what can be made
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[demo,test]"
	@touch $@

demo: $(VENV)/.installed  ## set up, then pretrain on the embedded photographs and show that the features are good
	$(BIN)/python scripts/demo.py --seconds $(DEMO_SECONDS)

test: $(VENV)/.installed  ## set up, then lint, types and tests
	$(MAKE) check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4

test-all: $(VENV)/.installed  ## the same with the slow tests
	$(BIN)/python -m pytest -m ""

check: $(VENV)/.installed  ## lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed  ## put the code in the house's form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed  ## measure speed and memory against the published formulas (minutes)
	$(BIN)/python scripts/benchmark.py all --output benchmark.json

clean:  ## remove what was built; runs stay
	rm -rf $(VENV) build dist *.egg-info
