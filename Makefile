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

# Everything here goes on where it was interrupted; `rm -r runs/demo` starts anew.
demo: .venv/.made
	$(BIN)/python -m train fashion_sample_gaussian --out runs/demo/gaussian --resume
	$(BIN)/python -m train fashion_sample_maxup --out runs/demo/maxup --resume
	$(BIN)/certify run runs/demo/gaussian --max 200 --n 2000 --seed 0
	$(BIN)/certify run runs/demo/maxup --max 200 --n 2000 --seed 0
	$(BIN)/python -m analysis curve runs/demo/gaussian/radii.tsv runs/demo/maxup/radii.tsv --out runs/demo/curve.png
	$(BIN)/python -m analysis table runs/demo/gaussian/radii.tsv runs/demo/maxup/radii.tsv --radii 0,0.5,1 --format markdown
	@echo
	@echo "runs/demo/curve.png               both curves"
	@echo "runs/demo/{gaussian,maxup}/       config.toml, train.csv, checkpoint.safetensors, radii.tsv, radii.manifest.json"
	@echo "Next:  $(BIN)/certify show runs/demo/maxup/radii.tsv --radii 0,0.1,0.2"
	@echo "       $(BIN)/certify run runs/demo/maxup --max 20 --n 100000 --out runs/demo/maxup/precise.tsv"
	@echo "       $(BIN)/python -m train fashion_sample_maxup --set m=16 --out runs/m16"

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
