# `make demo` and `make test` make .venv when it is missing, install what they need, and run.
# A torch without CUDA is a tenth of the size: make demo PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"

PYTHON ?= python3
PIP_ARGS ?=
# Two workers halve the time of the suite on two cores; more than four gain little. PYTEST_ARGS="-k host" runs a part.
WORKERS ?= 2
PYTEST_ARGS ?=
# BENCH_ARGS="train_step search" measures some of them again, BENCH_ARGS=--quick tries whether they run.
BENCH_ARGS ?=
BIN := .venv/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt

.PHONY: demo test lint format bench clean help

help:
	@echo "make demo    train on real data, evaluate, embed, index and search: under four minutes"
	@echo "make test    the tests"
	@echo "make lint    ruff and mypy"
	@echo "make format  let ruff format the sources"
	@echo "make bench   measure times, memory and resumes, and write docs/benchmarks.md: about half an hour"
	@echo "make clean   remove .venv and what the demo wrote"

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "embedkit needs Python 3.11 or newer; make PYTHON=python3.12 names one")'
	$(PYTHON) -m venv .venv

.venv/.base: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) -e .
	@touch $@

.venv/.dev: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) -e '.[test,lint]'
	@touch .venv/.base $@

.venv/.bench: .venv/.dev
	$(INSTALL) -e '.[test,lint,bench]'
	@touch $@

demo: .venv/.base
	$(BIN)/embedkit demo --out demo

test: .venv/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) $(PYTEST_ARGS)

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# RecBole wants older libraries, so it has an environment of its own; without it that one comparison is left out, and the page says why.
.venv-recbole/.done: .venv/bin/python constraints.txt
	$(PYTHON) -m venv .venv-recbole
	-(.venv-recbole/bin/python -m pip install --disable-pip-version-check $(PIP_ARGS) "$$(grep '^torch==' constraints.txt)" "numpy<2" \
	  && .venv-recbole/bin/python -m pip install --disable-pip-version-check $(PIP_ARGS) "recbole==1.2.1" "numpy<2" "pandas<2.3") \
	  > .venv-recbole/install.log 2>&1
	@touch $@

bench: .venv/.bench .venv-recbole/.done
	$(BIN)/python tests/benchmarks/run.py $(BENCH_ARGS)

clean:
	rm -rf .venv .venv-recbole .bench demo
