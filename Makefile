# Each target makes .venv from constraints.txt if it is missing or older than the files it was made from.
PYTHON ?= python3
export OMP_WAIT_POLICY ?= PASSIVE
BIN := .venv/bin

.PHONY: help demo serve results search test lint docs bench fuzz clean
help:
	@echo "make demo   train LeNet with Gaussian noise and with MaxUp on real images, certify both, draw the curves"
	@echo "make serve  answer images with the demo's model on http://127.0.0.1:8000"
	@echo "make results  train and certify the runs of configs/sets/lenet.txt (hours), and write docs/results.md"
	@echo "make search   train the recipes of configs/sets/search.txt (JOBS=2: two at a time), certify held-out images"
	@echo "make test   lint, then all tests that need no GPU and take seconds"
	@echo "make lint   ruff and mypy"
	@echo "make docs   the manual as a site; then python3 -m http.server -d build/site"
	@echo "make bench  every benchmark, in its quick form"
	@echo "make fuzz   RUNS=10000 hostile inputs for every parser (hours), or PARSERS='npz idx'; see fuzz/README.md"

.venv/.made: pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

# Everything here goes on where it was interrupted; `rm -r runs/demo` starts anew.
demo: .venv/.made
	$(BIN)/python -m train fashion_sample_gaussian --out runs/demo/gaussian --resume
	$(BIN)/python -m train fashion_sample_maxup --out runs/demo/maxup --resume
	$(BIN)/certify run runs/demo/gaussian --limit 200 --n 2000 --seed 0
	$(BIN)/certify run runs/demo/maxup --limit 200 --n 2000 --seed 0
	$(BIN)/python -m analysis curve runs/demo/gaussian/radii.tsv runs/demo/maxup/radii.tsv --out runs/demo/curve.png
	$(BIN)/python -m analysis table runs/demo/gaussian/radii.tsv runs/demo/maxup/radii.tsv --radii 0,0.5,1 --format markdown
	@echo
	@echo "runs/demo/curve.png               both curves"
	@echo "runs/demo/{gaussian,maxup}/       config.toml, train.csv, checkpoint.safetensors, radii.tsv, radii.manifest.json"
	@echo "Next:  $(BIN)/certify show runs/demo/maxup/radii.tsv --radii 0,0.1,0.2"
	@echo "       $(BIN)/certify run runs/demo/maxup --limit 20 --n 100000 --out runs/demo/maxup/precise.tsv"
	@echo "       $(BIN)/python -m train fashion_sample_maxup --set m=16 --out runs/m16"

# The demo's model behind HTTP, with a page on which one drops an image; Ctrl-C stops.
PORT ?= 8000
serve: .venv/.made
	$(BIN)/python -m train fashion_sample_maxup --out runs/demo/maxup --resume
	$(BIN)/certify serve runs/demo/maxup --port $(PORT)

# Trains what a file in configs/sets lists, certifies what was trained with noise, measures the test accuracy of what was
# trained without (language models have measured their perplexity), and reports it; goes on where it was interrupted.
SET ?= lenet
CERTIFY ?= --protocol skip20 --n 100000 --seed 0 --dtype bfloat16
LENET := $(filter lenet,$(SET))
CONTROLS ?= $(if $(LENET),--control gaussian --control mean-of-4 --control maxup-4 --control plain,--control plain --control mean-of-4)
REPORT ?= $(if $(LENET),docs/results.md,runs/$(SET)/results.md)
# docs/results.md has sections of other sets, too, whose run folders are stored.
STORED ?= $(if $(LENET),$(wildcard docs/results/cifar10/* docs/results/ptb/*))
results: .venv/.made
	@grep -v -e '^#' -e '^$$' configs/sets/$(SET).txt | while read -r name config changes; do \
	  run=runs/$(SET)/$$name; \
	  $(BIN)/python -m train $$config $$changes --out $$run --resume </dev/null || exit 1; \
	  if test -f $$run/perplexity.json || test -f $$run/test.json; then continue; \
	  elif grep -q -x -e 'sigma = 0' -e 'sigma = 0.0' $$run/config.toml; then \
	    $(BIN)/python -m train.evaluate $$run </dev/null || exit 1; \
	  else $(BIN)/certify run $$run $(CERTIFY) </dev/null || exit 1; fi; done
	$(BIN)/python -m analysis results $$(sed -n 's|^\([^# ]*\) .*|runs/$(SET)/\1|p' configs/sets/$(SET).txt) \
	  $(STORED) $(CONTROLS) --out $(REPORT)

# Trains what a file in configs/sets lists, several at a time, and prints what held-out images say; no test image is seen.
JOBS ?= 1
search: SET = search
search: .venv/.made
	@grep -v -e '^#' -e '^$$' configs/sets/$(SET).txt | xargs -P $(JOBS) -L 1 sh -c 'name=$$0 config=$$1; shift; \
	  $(BIN)/python -m train "$$config" "$$@" --out "runs/$(SET)/$$name" --resume || exit 255'
	$(BIN)/python -m analysis search-log $$(sed -n 's|^\([^# ]*\) .*|runs/$(SET)/\1|p' configs/sets/$(SET).txt)

lint: .venv/.made
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

docs: .venv/.made
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

bench: .venv/.made
	@for question in $$(ls benchmarks/*_bench.py) benchmarks/maxup_step.py; do \
	  $(BIN)/python -m benchmarks.$$(basename $$question .py) --quick || exit 1; done

# atheris is on Linux only, and no part of .[dev]. What a parser fails on is kept in runs/fuzz.
RUNS ?= 10000
fuzz: .venv/.made
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,fuzz]'
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore -m fuzz $(PARSERS) --runs $(RUNS)

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache
