# Everything runs in .venv, made once and made anew when setup.cfg or pyproject.toml change.
PYTHON ?= python3

SHELL := bash

# TensorFlow's notes on its start-up; 0 shows them all.
export TF_CPP_MIN_LOG_LEVEL ?= 3

# Some are written before TensorFlow reads that level. A script for sed that removes them from stderr:
NOTES = /^WARNING: All log messages before absl::InitializeLog/d; \
	/^[IW][0-9]{4} .*\.cc:[0-9]+\]/d; /Unable to register cu[A-Z]+ factory/d

# pip shows errors and no warnings, which are about its own settings and newer versions of itself.
QUIET := -qq --disable-pip-version-check

.PHONY: help demo test test-all lint types test-lowest clean
.DEFAULT_GOAL := help

help:  ## list the commands
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

demo: .venv/installed  ## train, judge, draw and export a VAE on real digits; check the export
	$(call without-notes,.venv/bin/python examples/mnist_5k.py)
	$(call without-notes,.venv/bin/python examples/check_saved_model.py saved_models/mnist_5k/1)

# More options of pytest, such as ARGS="-k name".
ARGS ?=
PYTEST = .venv/bin/python -m pytest -n 2 --dist worksteal

# In parts, each in processes of its own, as TensorFlow never gives back the memory of a traced
# function; at once where ARGS chooses some tests. All parts run, also after one that fails.
define run-tests
@failed=0; for part in $(if $(ARGS),1/1,$(PARTS)); do \
	echo '$(PYTEST) $(1) --part '$$part' $(ARGS)'; $(PYTEST) $(1) --part $$part $(ARGS) || failed=1; \
done; exit $$failed
endef

test: PARTS = 1/3 2/3 3/3
test: .venv/installed  ## the quick tests, before a change is sent; ARGS="-k name" runs some
	$(call run-tests,-m "not full")

test-all: PARTS = 1/6 2/6 3/6 4/6 5/6 6/6
test-all: .venv/installed  ## all tests: in addition full products, benchmarks, workers
	$(call run-tests)

lint: .venv/installed  ## ruff: rules and format
	.venv/bin/python -m ruff check .
	.venv/bin/python -m ruff format --check .

types: .venv/installed  ## the type checker
	.venv/bin/python -m mypy keras_vae

test-lowest: .venv-lowest/installed  ## the quick tests with the lowest supported versions
	.venv-lowest/bin/python -m pytest -m "not full"

clean:  ## remove environments and what tests, builds and the demo left
	rm -rf .venv .venv-lowest build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache runs
	find saved_models -mindepth 1 ! -name README.md -delete
	find keras_vae tests examples -name __pycache__ -prune -exec rm -rf {} +

.venv/installed: setup.cfg pyproject.toml
	$(call new-environment,.venv,14)
	@.venv/bin/python -m pip install $(QUIET) --editable '.[test,dev]'
	@touch $@

.venv-lowest/installed: setup.cfg pyproject.toml tests/lowest.py
	$(call new-environment,.venv-lowest,13)
	.venv-lowest/bin/python tests/lowest.py > .venv-lowest/constraints.txt
	@.venv-lowest/bin/python -m pip install $(QUIET) --constraint .venv-lowest/constraints.txt --editable '.[test]'
	@touch $@

# pip is upgraded because pip 23 can search for hours.
# 1: the folder; 2: the first minor version of Python that is too new (for the lowest versions: 3.13)
define new-environment
@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; \
	(3, 10) <= v < (3, $(2)) or sys.exit("$(MAKECMDGOALS) needs Python 3.10 or newer, older than " \
	"3.$(2); $(PYTHON) is %d.%d. Choose one: make PYTHON=python3.12 $(MAKECMDGOALS)" % v)'
@rm -rf $(1)
@echo "Installing into $(1) (once; some minutes)"
@$(PYTHON) -m venv $(1)
@$(1)/bin/python -m pip install $(QUIET) --upgrade pip
endef

# Runs a command, shown as make shows it, whose errors and warnings are seen and whose notes are not.
define without-notes
@echo '$(1)'
@set -o pipefail; { $(1) 2>&1 >&3 | \
	sed -u -E '$(if $(filter 3,$(TF_CPP_MIN_LOG_LEVEL)),$(NOTES))' >&2; } 3>&1
endef
