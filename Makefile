# Every target sets up what it needs first. `make` alone lists the targets.
#
#   MODEL       a zoo name, path/to/file.py:factory or package.module:factory
#   CHECKPOINT  a file with trained weights, where the model does not ship with them
#   OUT         the folder that the exported file goes to
#   ARGS        handed to the command as it is, for example ARGS="--dynamic none --json"
#   PYTHON      the interpreter that .venv is made with, 3.11 or later

MODEL ?=
CHECKPOINT ?=
OUT ?= build/$(subst :,-,$(subst /,-,$(MODEL)))
ARGS ?=
PYTHON ?= python3

BIN := .venv/bin
STAMP := .venv/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
CPP_SOURCES := $(shell find plugins -name '*.h' -o -name '*.cpp' -o -name '*.cuh' -o -name '*.cu' 2>/dev/null)
CLANG_FORMAT := $(shell command -v clang-format)

TEST_PROCESSES ?= 2

ifneq ($(filter export train,$(MAKECMDGOALS)),)
ifeq ($(MODEL),)
$(error MODEL is missing; for example: make $(filter export train,$(MAKECMDGOALS)) MODEL=birealnet)
endif
endif

.DEFAULT_GOAL := help
.PHONY: help setup export engine parity bench train test lint format plugins clean

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 12

setup: $(STAMP)  ## make .venv from the pinned requirements

$(STAMP): pyproject.toml requirements/runtime.txt requirements/dev.txt requirements/data.txt
	@$(PYTHON) -c 'import sys; sys.exit("PYTHON=$(PYTHON) is Python %d.%d, 3.11 or later is needed" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@echo "setting up .venv; PyTorch is a large package, this can take minutes" >&2
	$(PYTHON) -m venv .venv
	$(PIP) install -r requirements/dev.txt
	$(PIP) install --no-deps -r requirements/data.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

export: $(STAMP)  ## PyTorch to OUT/model.onnx and OUT/report.json, checked for parity
	$(BIN)/bnn-deploy export '$(MODEL)' -o '$(OUT)' $(if $(CHECKPOINT),--checkpoint '$(CHECKPOINT)') $(ARGS)

engine: $(STAMP)  ## a TensorRT engine (a later version)
	$(BIN)/bnn-deploy engine '$(OUT)' $(ARGS)

parity: $(STAMP)  ## compare runners on an exported file (a later version)
	$(BIN)/bnn-deploy parity '$(OUT)' $(ARGS)

bench: $(STAMP)  ## measure latency and throughput (a later version)
	$(BIN)/bnn-deploy bench '$(OUT)' $(ARGS)

train: $(STAMP)  ## train the shipped weights of MODEL again, on handwritten digits
	$(BIN)/python -m bnn_deploy.train '$(MODEL)' $(ARGS)

test: $(STAMP)  ## run the tests
	$(BIN)/pytest -q -n $(TEST_PROCESSES) $(ARGS)

lint: $(STAMP)  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy bnn_deploy models
	$(if $(and $(CLANG_FORMAT),$(CPP_SOURCES)),clang-format --dry-run -Werror $(CPP_SOURCES))

format: $(STAMP)  ## bring the sources into shape
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .
	$(if $(and $(CLANG_FORMAT),$(CPP_SOURCES)),clang-format -i $(CPP_SOURCES))

plugins:  ## build the native libraries (a later version)
	@echo "make plugins: the native libraries are not in this version of bnn_deploy" >&2; exit 2

clean:  ## remove what was built, .venv excepted
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find bnn_deploy models tests -name __pycache__ -type d -prune -exec rm -rf {} +
