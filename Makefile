# Each target makes .venv from constraints.txt if it is missing or older than the files it was made from.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help demo test lint bench clean
help:
	@echo "make demo   train LeNet with Gaussian noise and with MaxUp on real images, certify both, draw the curves"
	@echo "make test   lint, then all tests that need no GPU and take seconds"
	@echo "make lint   ruff and mypy"
	@echo "make bench  every benchmark, in its quick form"

.venv/.made: pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: .venv/.made
	$(BIN)/python -m benchmarks.demo

lint: .venv/.made
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest

bench: .venv/.made
	@for question in $$(ls benchmarks/*_bench.py); do \
	  $(BIN)/python -m benchmarks.$$(basename $$question .py) --quick || exit 1; done

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache
