"""What `make` would do; nothing is run but what says no."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")

VARIABLES = ("MODEL", "CHECKPOINT", "OUT", "ARGS", "PYTHON", "MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEFILES")


def make(repository: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs make as from a shell, not as from the make that may be running these tests."""
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, check=False)


def commands(repository: Path, *arguments: str) -> list[str]:
    """The commands that a target would run once .venv is there."""
    answer = make(repository, "--dry-run", "--assume-old=.venv/.installed", *arguments)
    assert answer.returncode == 0, answer.stderr
    return [" ".join(line.split()) for line in answer.stdout.splitlines()]


def test_help_is_the_default_and_lists_the_targets(repository: Path) -> None:
    answer = make(repository)
    assert answer.returncode == 0
    assert answer.stdout == make(repository, "help").stdout
    listed = {line.split()[0] for line in answer.stdout.splitlines()}
    interface = {"setup", "export", "engine", "parity", "bench", "test", "lint", "plugins"}
    assert interface | {"train", "format", "clean", "help"} == listed


@pytest.mark.parametrize("target", ["export", "engine", "parity", "train"])
def test_missing_model_is_one_line_and_status_2(target: str, repository: Path) -> None:
    answer = make(repository, target)
    assert answer.returncode == 2
    assert answer.stdout == ""
    assert answer.stderr.count("\n") == 1
    assert f"MODEL is missing; for example: make {target} MODEL=birealnet" in answer.stderr


def test_export(repository: Path) -> None:
    assert commands(repository, "export", "MODEL=birealnet") == [
        ".venv/bin/bnn-deploy export 'birealnet' -o 'build/birealnet'"
    ]


def test_export_with_everything(repository: Path) -> None:
    words = ("MODEL=nets/mine.py:make", "CHECKPOINT=my weights.pth", "ARGS=--json --dynamic none")
    start = ".venv/bin/bnn-deploy export 'nets/mine.py:make'"
    assert commands(repository, "export", *words) == [
        f"{start} -o 'build/nets-mine.py-make' --checkpoint 'my weights.pth' --json --dynamic none"
    ]
    assert commands(repository, "export", "OUT=here", *words[:1]) == [f"{start} -o 'here'"]


def test_parity_exports_first_where_nothing_is_exported(repository: Path) -> None:
    *_, export, check = commands(repository, "parity", "MODEL=birealnet", "OUT=here", "ARGS=--batch 3")
    assert export == "test -f 'here/model.onnx' || .venv/bin/bnn-deploy export 'birealnet' -o 'here'"
    assert check == ".venv/bin/bnn-deploy parity 'here' --batch 3"


def test_train(repository: Path) -> None:
    assert commands(repository, "train", "MODEL=nin", "ARGS=--epochs 1") == [
        ".venv/bin/python -m bnn_deploy.train 'nin' --epochs 1"
    ]


def test_engine_makes_first_what_is_not_there(repository: Path) -> None:
    plugin, *_, export, engine = commands(repository, "engine", "MODEL=birealnet", "OUT=here", "ARGS=--json")
    assert plugin.startswith("test -f 'build/plugins/tensorrt/libbnn_deploy_tensorrt.so' || make ")
    assert plugin.endswith(" plugins")
    assert export == "test -f 'here/model.onnx' || .venv/bin/bnn-deploy export 'birealnet' -o 'here'"
    assert engine == ".venv/bin/bnn-deploy engine 'here' --json"


def test_bench_of_a_model_exports_it_where_it_is_not_there(repository: Path) -> None:
    words = ("MODEL=nin", "CHECKPOINT=my weights.pth", "OUT=here", "ARGS=--batch 8")
    assert commands(repository, "bench", *words)[-2:] == [
        "test -f 'here/model.onnx' || .venv/bin/bnn-deploy export 'nin' -o 'here' --checkpoint 'my weights.pth'",
        ".venv/bin/bnn-deploy bench 'here' --batch 8",
    ]


def test_bench_without_a_model_is_the_own_set(repository: Path) -> None:
    layers, networks = commands(repository, "bench", "ARGS=--seconds 1")[-2:]
    for line, name in ((layers, "layers"), (networks, "zoo")):
        result = rf"benchmarks/cpu/results/{name}-\d{{4}}-\d\d-\d\d\.json"
        assert re.match(rf"\.venv/bin/python benchmarks/cpu/bench_{name}\.py --json {result}", line)
    assert networks.endswith(".json --seconds 1")


def test_arm_builds_for_arm_and_runs_there(repository: Path) -> None:
    built = commands(repository, "test-arm")
    assert any("-DCMAKE_SYSTEM_PROCESSOR=aarch64" in line for line in built)
    assert built[-2:] == [f"qemu-aarch64 build/plugins-arm/{name}" for name in ("concurrent_runs", "kernel_checks")]


def test_arm_without_an_emulator_is_one_line_and_status_2(repository: Path) -> None:
    answer = make(repository, "test-arm", "ARM_COMPILER=true", "ARM_EMULATOR=no-such-emulator")
    assert answer.returncode == 2
    assert "no-such-emulator is missing; on Debian: apt-get install " in answer.stderr


@pytest.mark.parametrize("target", ["test-gpu", "bench-gpu"])
def test_gpu_builds_for_one_architecture_and_nothing_else(target: str, repository: Path) -> None:
    built = commands(repository, target, "GPU_ARCHITECTURE=90", "NVCC=/opt/nvcc", "ARGS=-x")
    assert any("-DCMAKE_CUDA_COMPILER=/opt/nvcc -DCMAKE_CUDA_ARCHITECTURES=90-real" in line for line in built)
    assert any(line.startswith("cmake --build build/gpu --target bnn_deploy_cuda ") for line in built)
    assert not any(" -m pip " in line for line in built)


def test_gpu_tests_run_on_the_gpu_libraries_and_under_the_sanitizer(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "net" / "golden").mkdir(parents=True)
    words = ("test-gpu", "GPU_ARCHITECTURE=90", "NVCC=nvcc", "GPU_PYTHON=py", "ARGS=-x", f"GPU_MODELS={tmp_path}")
    *_, first, tests, libraries, host, end_to_end, sanitizer = commands(repository, *words)
    library, plugin = "build/gpu/cuda/libbnn_deploy_cuda.so", "build/gpu/tensorrt/libbnn_deploy_tensorrt.so"
    python = "PYTHONPATH=.${PYTHONPATH:+:$PYTHONPATH} py"
    assert first == f"{python} benchmarks/gpu/first_run.py --library {library} --plugin {plugin}"
    ignored = " ".join(f"--ignore tests/plugins/cuda/test_{name}.py" for name in ("check_sass", "executor", "planted"))
    pytest_words = f"{python} -m pytest -q -rs tests/plugins/cuda {ignored} -x"
    assert tests == f"BNN_CUDA_LIBRARY={repository}/{library} {pytest_words}"
    assert libraries == f"BNN_CUDA_LIBRARY={repository}/{library} BNN_TENSORRT_LIBRARY={repository}/{plugin} \\"
    assert host == f"{python} -m pytest -q -rs tests/plugins/tensorrt -x"
    networks = f"--plugin {plugin} --kernels {library} --models {tmp_path}"
    assert end_to_end == f"{python} benchmarks/gpu/end_to_end.py {networks}"
    assert sanitizer == f"{python} plugins/cuda/sanitize.py {library}"


def test_gpu_tests_without_networks_say_so(repository: Path, tmp_path: Path) -> None:
    built = commands(repository, "test-gpu", "GPU_ARCHITECTURE=90", "NVCC=nvcc", f"GPU_MODELS={tmp_path}")
    assert f'echo "no networks in {tmp_path}: make gpu-models" >&2' in built
    assert not any("end_to_end.py" in line for line in built)


def test_gpu_plugin_without_headers_is_one_line_and_status_2(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "CMakeCache.txt").write_text("TENSORRT_INCLUDE_DIR:PATH=TENSORRT_INCLUDE_DIR-NOTFOUND\n", "utf-8")
    answer = make(repository, "gpu-plugin", "--assume-old=gpu-library", f"GPU={tmp_path}")
    assert answer.returncode == 2 and answer.stderr.startswith("the TensorRT plugin: its headers are missing; pip ")


def test_gpu_benchmark_compiles_its_programs(repository: Path) -> None:
    words = ("GPU_ARCHITECTURE=90", "NVCC=nvcc", "GPU_PYTHON=py", "COMMIT=abc", "GPU=build/elsewhere", "ARGS=--quick")
    built = commands(repository, "bench-gpu", *words)
    programs = [line for line in built if line.startswith("nvcc ")]
    assert len(programs) == len(list((repository / "benchmarks" / "gpu").glob("*.cu")))
    assert all("-gencode arch=compute_90a,code=sm_90a" in line for line in programs)
    plugin = "--plugin build/elsewhere/tensorrt/libbnn_deploy_tensorrt.so \\ --models build/gpu-models"
    options = f"--programs build/elsewhere/programs {plugin} --output 'benchmarks/gpu/results' --commit 'abc' --quick"
    assert " ".join(built[-2:]).endswith(options)


def test_gpu_that_is_not_there_is_one_line_and_status_2(repository: Path, tmp_path: Path) -> None:
    answer = make(repository, "test-gpu", "GPU_ARCHITECTURE=", "NVCC=true", f"GPU={tmp_path}")
    assert answer.returncode == 2
    assert "nvidia-smi finds none; GPU_ARCHITECTURE=90 builds for one that is elsewhere" in answer.stderr
    answer = make(repository, "test-gpu", "GPU_ARCHITECTURE=90", "NVCC=", f"GPU={tmp_path}")
    assert answer.returncode == 2
    assert "cmake or nvcc is missing" in answer.stderr


@pytest.mark.parametrize(("nvcc", "cuda"), [("", "OFF"), ("/opt/nvcc", "ON -DCMAKE_CUDA_COMPILER=/opt/nvcc")])
def test_plugins_are_built_with_the_headers_that_set_up_installed(nvcc: str, cuda: str, repository: Path) -> None:
    """Before any other build: `make test` sets up, then builds, then tests."""
    built = commands(repository, "plugins", f"NVCC={nvcc}", "PYTHON=python3")
    assert any(f"-DBNN_CUDA_HOST=ON -DBNN_CUDA={cuda} -DBNN_PYTHON=" in line for line in built)
    every = make(repository, "--dry-run", "--always-make", "test").stdout
    places = [every.index(text) for text in ("-r requirements/headers.txt", "cmake -S plugins", "pytest -q -n")]
    assert places == sorted(places)


def test_plugins_configures_and_builds(repository: Path) -> None:
    built = commands(repository, "plugins")
    assert any("cmake -S plugins -B build/plugins" in line for line in built)
    assert built[-1].startswith("cmake --build build/plugins")


def test_plugins_without_cmake_is_one_line_and_status_2(repository: Path, tmp_path: Path) -> None:
    for tool in ("make", "sh", "find", "sed"):
        (tmp_path / tool).symlink_to(shutil.which(tool) or tool)
    answer = subprocess.run(
        ["make", "--no-print-directory", "plugins"],
        cwd=repository,
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 2
    assert "cmake is missing; install it" in answer.stderr


def test_python_that_is_too_old_is_refused(repository: Path, tmp_path: Path) -> None:
    old = tmp_path / "old-python"
    pretend = "import sys; sys.version_info = (3, 10); exec(sys.argv[1])"
    old.write_text(f"#!/bin/sh\nexec '{sys.executable}' -c '{pretend}' \"$2\"\n", "utf-8")
    old.chmod(0o755)
    answer = make(repository, "--assume-new=pyproject.toml", "setup", f"PYTHON={old}")
    assert answer.returncode == 2
    assert "is Python 3.10, 3.11 or later is needed" in answer.stderr
