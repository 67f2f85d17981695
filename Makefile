# The newcomer's commands: `make demo`, `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= runs/world

.PHONY: demo demo-full test check help

help:
	@echo "make demo       logs of simulated users -> an evaluated model and its report (a few minutes)"
	@echo "make demo-full  the same with 3 seeds and more users (up to 40 minutes)"
	@echo "make test       linter, type checker and tests, offline"

$(VENV)/.demo: requirements/demo.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements/demo.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.demo requirements/dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements/dev.txt
	@touch $@

demo: $(VENV)/.demo
	$(BIN)/rlhi world --out $(DEMO) --users 40 --seed 1
	$(BIN)/rlhi run recipes/demo.yaml

demo-full: $(VENV)/.demo
	$(BIN)/rlhi world --out $(DEMO)-full --users 150 --seed 2
	$(BIN)/rlhi run recipes/demo-full.yaml

test: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

check: test
