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
CPP_SOURCES := $(shell find plugins benchmarks -name '*.h' -o -name '*.cpp' -o -name '*.cuh' -o -name '*.cu' 2>/dev/null)

TEST_PROCESSES ?= 2
PLUGINS := build/plugins
ARM_COMPILER ?= aarch64-linux-gnu-g++
ARM_EMULATOR ?= qemu-aarch64
RESULTS := benchmarks/cpu/results
EXPORT = $(BIN)/bnn-deploy export '$(MODEL)' -o '$(OUT)' $(if $(CHECKPOINT),--checkpoint '$(CHECKPOINT)')

OF_A_MODEL := export engine parity train
ifneq ($(filter $(OF_A_MODEL),$(MAKECMDGOALS)),)
ifeq ($(MODEL),)
$(error MODEL is missing; for example: make $(firstword $(filter $(OF_A_MODEL),$(MAKECMDGOALS))) MODEL=birealnet)
endif
endif

.DEFAULT_GOAL := help
.PHONY: help setup export engine parity bench train test lint format plugins native-if-possible test-sanitizers test-arm test-gpu bench-gpu gpu-bundle gpu-models gpu-library gpu-plugin gpu-architecture clean

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 12

setup: $(STAMP)  ## make .venv from the pinned requirements

$(STAMP): pyproject.toml $(addprefix requirements/,runtime.txt dev.txt data.txt headers.txt)
	@$(PYTHON) -c 'import sys; sys.exit("PYTHON=$(PYTHON) is Python %d.%d, 3.11 or later is needed" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@echo "setting up .venv; PyTorch is a large package, this can take minutes" >&2
	$(PYTHON) -m venv .venv
	$(PIP) install -r requirements/dev.txt
	$(PIP) install --no-deps -r requirements/data.txt -r requirements/headers.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

export: $(STAMP)  ## PyTorch to OUT/model.onnx and OUT/report.json, checked for parity
	$(EXPORT) $(ARGS)

engine: $(STAMP)  ## a TensorRT engine, OUT/model.engine; exports MODEL first where OUT has no file
	test -f '$(PLUGINS)/tensorrt/libbnn_deploy_tensorrt.so' || $(MAKE) --no-print-directory plugins
	test -f '$(OUT)/model.onnx' || $(EXPORT)
	$(BIN)/bnn-deploy engine '$(OUT)' $(ARGS)

parity: $(STAMP) native-if-possible  ## compare runners with the PyTorch model; exports it first where OUT has no file
	test -f '$(OUT)/model.onnx' || $(EXPORT)
	$(BIN)/bnn-deploy parity '$(OUT)' $(ARGS)

bench: $(STAMP) native-if-possible  ## measure runners on MODEL; without MODEL, the project's own set
ifneq ($(MODEL),)
	test -f '$(OUT)/model.onnx' || $(EXPORT)
	$(BIN)/bnn-deploy bench '$(OUT)' $(ARGS)
else
	$(BIN)/python benchmarks/cpu/bench_layers.py --json $(RESULTS)/layers-$(shell date +%F).json
	$(BIN)/python benchmarks/cpu/bench_zoo.py --json $(RESULTS)/zoo-$(shell date +%F).json $(ARGS)
endif

train: $(STAMP)  ## train the shipped weights of MODEL again, on handwritten digits
	$(BIN)/python -m bnn_deploy.train '$(MODEL)' $(ARGS)

test: $(STAMP) native-if-possible  ## run the tests
	$(BIN)/pytest -q -n $(TEST_PROCESSES) $(ARGS)

lint: $(STAMP)  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy bnn_deploy models
	$(BIN)/clang-format --dry-run -Werror $(CPP_SOURCES)

format: $(STAMP)  ## bring the sources into shape
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP_SOURCES)

# Ninja where there is one, else whatever cmake finds; both rebuild no more than has changed.
# The kernels for GPUs where there is an nvcc, in the environment's packages or on PATH; for tests on the host everywhere.
NVCC = $(firstword $(wildcard .venv/lib/python3*/site-packages/nvidia/cu13/bin/nvcc) $(shell command -v nvcc))
CUDA_ARGS = -DBNN_CUDA_HOST=ON -DBNN_CUDA=$(if $(NVCC),ON -DCMAKE_CUDA_COMPILER=$(abspath $(NVCC)),OFF) \
  -DBNN_PYTHON=$(abspath $(if $(wildcard $(BIN)/python),$(BIN)/python,$(shell command -v $(PYTHON))))
plugins:  ## build the native libraries, with g++ or clang++ and cmake, and nvcc where there is one
	@command -v cmake >/dev/null || { echo "make plugins: cmake is missing; install it with the system's packages" >&2; exit 2; }
	@$(if $(NVCC),,echo "no nvcc: going on without the kernels for GPUs; pip install nvidia-cuda-nvcc nvidia-cuda-runtime" >&2)
	@cmake -S plugins -B $(PLUGINS) $(if $(shell command -v ninja),-G Ninja) $(CUDA_ARGS) $(PLUGIN_ARGS) >/dev/null
	cmake --build $(PLUGINS) --parallel $(TEST_PROCESSES)

# The kernels under the sanitizers for memory and for threads. The ONNX Runtime tests run with the first one loaded too;
# not so the comparison with OpenVINO, which loads libraries in a way that the sanitizer forbids. The GPU's kernels run with
# it in their executor, on their own and in the TensorRT plugin; what is wrong on purpose, runs a compiler, loads TensorRT or
# PyTorch, measures, or looks at the libraries as they are shipped, does without.
WITHOUT_SANITIZER = $(patsubst %,--ignore tests/plugins/%.py,$(addprefix cuda/test_,check_sass executor planted) \
  $(addprefix tensorrt/test_,engine exports network registry) $(addprefix test_,bench_gpu bench_networks benchmark gpu_bundle gpu_bundle_pycuda openvino))
LIBASAN = $(shell g++ -print-file-name=libasan.so) $(shell g++ -print-file-name=libstdc++.so)
test-sanitizers: $(STAMP)
	@for kind in address thread; do \
	  cmake -S plugins -B $(PLUGINS)-$$kind $(if $(shell command -v ninja),-G Ninja) -DBNN_SANITIZE=$$kind \
	  -DBNN_CUDA_HOST=$$(test $$kind = address && echo ON || echo OFF) -DBNN_PYTHON=$(abspath $(BIN)/python) >/dev/null && \
	  cmake --build $(PLUGINS)-$$kind --parallel $(TEST_PROCESSES) && $(PLUGINS)-$$kind/concurrent_runs && \
	  $(PLUGINS)-$$kind/kernel_checks || exit 1; done
	BNN_DEPLOY_NATIVE_LIBRARY=$(PLUGINS)-address/libbnn_deploy_ort.so LD_PRELOAD="$(LIBASAN)" \
	  BNN_CUDA_LIBRARY=$(PLUGINS)-address/cuda/host/libbnn_deploy_cuda_host.so \
	  BNN_TENSORRT_LIBRARY=$(PLUGINS)-address/tensorrt/libbnn_deploy_tensorrt_host.so \
	  ASAN_OPTIONS=detect_leaks=0:verify_asan_link_order=0 $(BIN)/pytest -q -rs -p no:cacheprovider tests/plugins \
	  $(WITHOUT_SANITIZER)

# On a machine with a GPU: needs nvcc, cmake, g++ and a Python with NumPy, ONNX, ONNX Runtime, pytest and hypothesis, and no
# .venv. PyTorch, where it is there, is what bench-gpu compares with. GPU_ARCHITECTURE is 90 for compute capability 9.0.
GPU := build/gpu
GPU_PYTHON ?= $(if $(wildcard $(BIN)/python),$(abspath $(BIN)/python),$(PYTHON))
GPU_RUN = PYTHONPATH=.$${PYTHONPATH:+:$$PYTHONPATH} $(GPU_PYTHON)
GPU_ARCHITECTURE ?= $(shell nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1 | tr -d .)
GPU_LIBRARY := $(GPU)/cuda/libbnn_deploy_cuda.so
GPU_PLUGIN := $(GPU)/tensorrt/libbnn_deploy_tensorrt.so
GPU_MODELS := build/gpu-models
# What is about the host executor, or about machine code, has nothing to ask a GPU.
WITHOUT_EXECUTOR = $(patsubst %,--ignore tests/plugins/cuda/test_%.py,check_sass executor planted)
GPU_PROGRAMS := $(patsubst benchmarks/gpu/%.cu,$(GPU)/programs/%,$(wildcard benchmarks/gpu/*.cu))
GPU_RESULTS ?= benchmarks/gpu/results
COMMIT ?= $(shell git describe --always --dirty --abbrev=40 2>/dev/null)
# wgmma is in no architecture but 9.0 with an a.
GPU_EXACT = $(GPU_ARCHITECTURE)$(if $(filter 90,$(GPU_ARCHITECTURE)),a)

# Tells first, in a line, where nothing runs. Whole networks: those that `make gpu-models` has exported, or a bundle brings.
test-gpu: gpu-plugin
	@$(GPU_RUN) benchmarks/gpu/first_run.py --library $(GPU_LIBRARY) --plugin $(GPU_PLUGIN)
	BNN_CUDA_LIBRARY=$(abspath $(GPU_LIBRARY)) $(GPU_RUN) -m pytest -q -rs tests/plugins/cuda $(WITHOUT_EXECUTOR) $(ARGS)
	BNN_CUDA_LIBRARY=$(abspath $(GPU_LIBRARY)) BNN_TENSORRT_LIBRARY=$(abspath $(GPU_PLUGIN)) \
	  $(GPU_RUN) -m pytest -q -rs tests/plugins/tensorrt $(ARGS)
	$(if $(wildcard $(GPU_MODELS)/*/golden),$(GPU_RUN) benchmarks/gpu/end_to_end.py --plugin $(GPU_PLUGIN) \
	  --kernels $(GPU_LIBRARY) --models $(GPU_MODELS),@echo "no networks in $(GPU_MODELS): make gpu-models" >&2)
	$(GPU_RUN) plugins/cuda/sanitize.py $(GPU_LIBRARY)

bench-gpu: gpu-plugin $(GPU_PROGRAMS)
	$(GPU_RUN) benchmarks/gpu/bench_gpu.py --library $(GPU_LIBRARY) --programs $(GPU)/programs --plugin $(GPU_PLUGIN) \
	  --models $(GPU_MODELS) --output '$(GPU_RESULTS)' --commit '$(COMMIT)' $(ARGS)

# For a machine with a GPU and no network: build/gpu-bundle, with run_bundle.sh in it.
gpu-bundle: gpu-architecture $(STAMP) plugins $(GPU_PROGRAMS)
	$(BIN)/python benchmarks/gpu/bundle.py --output build/gpu-bundle $(ARGS)

gpu-models: $(STAMP) native-if-possible
	$(BIN)/python benchmarks/gpu/bundle.py --only-models --keep-models

gpu-library: gpu-architecture
	@for tool in cmake '$(NVCC)'; do command -v "$$tool" >/dev/null || { echo \
	  "kernels for a GPU: cmake or nvcc is missing; nvcc is looked for on PATH and in .venv" >&2; exit 2; }; done
	@cmake -S plugins -B $(GPU) $(if $(shell command -v ninja),-G Ninja) -DBNN_CUDA=ON \
	  -DCMAKE_CUDA_COMPILER=$(abspath $(NVCC)) -DCMAKE_CUDA_ARCHITECTURES=$(GPU_ARCHITECTURE)-real \
	  -DBNN_PYTHON=$(shell command -v $(GPU_PYTHON)) >/dev/null
	cmake --build $(GPU) --target bnn_deploy_cuda --parallel $(shell nproc)

# And the host that plays TensorRT's part in tests.
gpu-plugin: gpu-library
	@! grep -qs '^TENSORRT_INCLUDE_DIR:.*NOTFOUND' $(GPU)/CMakeCache.txt || { echo "the TensorRT plugin: its headers are missing;" \
	  "pip install --no-deps -r requirements/headers.txt, or set TENSORRT_INCLUDE_DIR" >&2; exit 2; }
	cmake --build $(GPU) --target bnn_deploy_tensorrt bnn_plugin_host --parallel $(shell nproc)

gpu-architecture:
	@test -n '$(GPU_ARCHITECTURE)' || { echo \
	  "kernels for a GPU: nvidia-smi finds none; GPU_ARCHITECTURE=90 builds for one that is elsewhere" >&2; exit 2; }

$(GPU)/programs/%: benchmarks/gpu/%.cu benchmarks/gpu/measure.cuh plugins/cuda/ptx.cuh
	@mkdir -p $(@D)
	$(NVCC) -std=c++17 -O3 -I plugins -gencode arch=compute_$(GPU_EXACT),code=sm_$(GPU_EXACT) -o $@ $<

# The kernels for 64-bit ARM, cross-compiled and run under an emulator.
test-arm:
	@for tool in cmake $(ARM_COMPILER) $(ARM_EMULATOR); do command -v $$tool >/dev/null || { echo \
	  "make test-arm: $$tool is missing; on Debian: apt-get install cmake g++-aarch64-linux-gnu qemu-user" >&2; exit 2; }; done
	@cmake -S plugins -B $(PLUGINS)-arm $(if $(shell command -v ninja),-G Ninja) -DBNN_TESTS=ON \
	  -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_CXX_COMPILER=$(ARM_COMPILER) \
	  -DCMAKE_EXE_LINKER_FLAGS=-static >/dev/null
	cmake --build $(PLUGINS)-arm --parallel $(TEST_PROCESSES)
	$(ARM_EMULATOR) $(PLUGINS)-arm/concurrent_runs
	$(ARM_EMULATOR) $(PLUGINS)-arm/kernel_checks

# For targets that do without the library, only slower: says so, and goes on.
native-if-possible: $(STAMP)
	@if command -v cmake >/dev/null && { command -v g++ || command -v clang++; } >/dev/null; then $(MAKE) --no-print-directory plugins; \
	else echo "no cmake or no C++ compiler: going on without the native library" >&2; fi

clean:  ## remove what was built, .venv excepted
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find bnn_deploy models tests -name __pycache__ -type d -prune -exec rm -rf {} +
