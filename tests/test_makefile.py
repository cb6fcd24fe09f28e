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


@pytest.mark.parametrize("target", ["export", "parity", "train"])
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


@pytest.mark.parametrize("target", ["engine"])
def test_target_of_a_later_version_asks_the_command(target: str, repository: Path) -> None:
    assert commands(repository, target, "MODEL=birealnet") == [f".venv/bin/bnn-deploy {target} 'build/birealnet'"]


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
