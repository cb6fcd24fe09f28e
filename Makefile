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
PLUGINS := build/plugins

ifneq ($(filter export train,$(MAKECMDGOALS)),)
ifeq ($(MODEL),)
$(error MODEL is missing; for example: make $(filter export train,$(MAKECMDGOALS)) MODEL=birealnet)
endif
endif

.DEFAULT_GOAL := help
.PHONY: help setup export engine parity bench train test lint format plugins native-if-possible test-sanitizers clean

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

test: $(STAMP) native-if-possible  ## run the tests
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

# Ninja where there is one, else whatever cmake finds; both rebuild no more than has changed.
plugins:  ## build the native library, with g++ or clang++ and cmake
	@command -v cmake >/dev/null || { echo "make plugins: cmake is missing; install it with the system's packages" >&2; exit 2; }
	@cmake -S plugins -B $(PLUGINS) $(if $(shell command -v ninja),-G Ninja) $(PLUGIN_ARGS) >/dev/null
	cmake --build $(PLUGINS) --parallel $(TEST_PROCESSES)

# The kernels under the sanitizers for memory and for threads. The ONNX Runtime tests run with the first one loaded too;
# not so the comparison with OpenVINO, which loads libraries in a way that the sanitizer forbids.
LIBASAN = $(shell g++ -print-file-name=libasan.so) $(shell g++ -print-file-name=libstdc++.so)
test-sanitizers: $(STAMP)
	@for kind in address thread; do \
	  cmake -S plugins -B $(PLUGINS)-$$kind $(if $(shell command -v ninja),-G Ninja) -DBNN_SANITIZE=$$kind >/dev/null && \
	  cmake --build $(PLUGINS)-$$kind --parallel $(TEST_PROCESSES) && $(PLUGINS)-$$kind/concurrent_runs || exit 1; done
	BNN_DEPLOY_NATIVE_LIBRARY=$(PLUGINS)-address/libbnn_deploy_ort.so LD_PRELOAD="$(LIBASAN)" \
	  ASAN_OPTIONS=detect_leaks=0:verify_asan_link_order=0 $(BIN)/pytest -q -rs -p no:cacheprovider tests/plugins \
	  --ignore tests/plugins/test_openvino.py

# For targets that do without the library, only slower: says so, and goes on.
native-if-possible:
	@if command -v cmake >/dev/null && { command -v g++ || command -v clang++; } >/dev/null; then $(MAKE) --no-print-directory plugins; \
	else echo "no cmake or no C++ compiler: going on without the native library" >&2; fi

clean:  ## remove what was built, .venv excepted
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find bnn_deploy models tests -name __pycache__ -type d -prune -exec rm -rf {} +
