# `make demo` needs Python 3.11 or later and nothing else, `make test` Chromium as well; everything goes into .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test lint suite tables page pictures bench

demo: $(VENV)/installed-demo
	$(BIN)/bpfc demo --out demo

# Beside each other: some tests wait for a browser or a process, and leave a core to lint.
test: $(VENV)/installed-test
	$(MAKE) --jobs 2 lint suite

suite: $(VENV)/installed-test
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The tables of README and docs, and the pictures of the trade-off, from results/.
tables: $(VENV)/installed-test
	$(BIN)/python -m bpfc.report.tables README.md docs/*.md

# The page about the Fashion-MNIST networks. Its pictures need Fashion-MNIST, and its weights those in results/.
PAGE := bpfc normal mixup fgsm-at rss-at pgd-at-6-epochs bpfc-simple-quantisation bpfc-uniform-noise bpfc-l1 \
	ibp-curve-20-epochs
page: $(VENV)/installed-test
	$(BIN)/bpfc report $(PAGE:%=results/fashion-mnist-%) --out docs/fashion-mnist.html

# Of the page and of the explorer, as Chromium shows them; after `make page`.
pictures: $(VENV)/installed-test
	$(BIN)/python docs/pictures.py

bench: $(VENV)/installed-test
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/pgd.py
	$(BIN)/python benchmarks/methods.py

# The demo waits for what it needs alone. torch first and pinned, so that nothing after it chooses another build. On
# Linux pip's own choice is a CUDA build of several gigabytes; with PyTorch's index of CPU builds in PIP_EXTRA_INDEX_URL
# it is the CPU's.
EXTRAS-demo := demo,explore
EXTRAS-test := test
$(VENV)/installed-%: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[$(EXTRAS-$*)]'
	touch $@
