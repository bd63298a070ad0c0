# The two commands: `make quickstart` and `make test`. Each makes .venv and installs when needed.
# PYTHON names the interpreter for a new .venv; IMAGES=DIR runs the quickstart on your photos; JOBS
# is the number of test processes, of one thread each.
PYTHON ?= python3
IMAGES ?=
JOBS ?= 2
BIN := .venv/bin
SOURCES := unsam divide_and_conquer tests tools demo datasets train_net.py setup.py

.PHONY: quickstart test lint format clean

quickstart: .venv/.installed
	$(BIN)/unsam quickstart --output quickstart $(if $(IMAGES),--images "$(IMAGES)")

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile

lint: .venv/.installed-dev
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy

format: .venv/.installed-dev
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; try make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv

.venv/.installed: .venv/bin/python setup.py pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

.venv/.installed-dev: .venv/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@
