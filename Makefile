# Each target does its own set-up in .venv the first time, and nothing the second.
#   make PYTHON=python3.12          another interpreter
#   make TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu"     another torch
#   make EXTENSION=0                without the C++ extension
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?=
TORCH ?= torch==2.13.0
EXTENSION ?= auto
VENV ?= .venv
ARGS ?=
export PYTHON TORCH EXTENSION VENV

BIN := $(VENV)/bin
DEMO_STAMP := $(VENV)/.tsp3d-demo
DEV_STAMP := $(VENV)/.tsp3d-dev
SOURCES := pyproject.toml setup.py tools/setup_venv.sh $(shell find csrc 2>/dev/null -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh' -o -name '*.inc')

.PHONY: help setup demo test test-slow lint format types build clean distclean

help:  ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## */  make \1\t/' | expand -t 20

# The development set-up holds all that the demo needs.
$(DEMO_STAMP): $(SOURCES)
	@tools/setup_venv.sh $$([ -e $(DEV_STAMP) ] && echo dev || echo demo)
	@[ ! -e $(DEV_STAMP) ] || touch $(DEV_STAMP)
	@touch $@

$(DEV_STAMP): $(SOURCES)
	@tools/setup_venv.sh dev
	@touch $@ $(DEMO_STAMP)

setup: $(DEV_STAMP)  ## Everything for development, in .venv

demo: $(DEMO_STAMP)  ## Ground three sentences in the bundled scan
	@$(BIN)/python tools/demo.py $(ARGS)

test: $(DEV_STAMP)  ## All tests but the slow ones; ARGS="-k name" for some
	@$(BIN)/python -m pytest $(ARGS)

test-slow: $(DEV_STAMP)  ## The slow tests
	@$(BIN)/python -m pytest -m slow $(ARGS)

lint: $(DEV_STAMP)  ## ruff: mistakes and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: $(DEV_STAMP)  ## ruff: mend both
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

types: $(DEV_STAMP)  ## pyright
	@PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright

build: $(DEV_STAMP)  ## Build the C++ extension again
	@$(BIN)/python -m pip -qq install --no-build-isolation --no-deps -e .
	@$(BIN)/python -m tsp3d.info

clean:  ## Remove what building and testing left
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .benchmarks out/demo
	find tsp3d tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
	find tsp3d -name '*.so' -delete

distclean: clean  ## The same, and .venv
	rm -rf $(VENV)
