"""The benchmark scripts run, check what they measure, and write what they say. Their times are nobody's business."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bnn_deploy.native import VARIABLE

LAYERS = 7
CONTENDERS = {"onnxruntime float32", "onnxruntime int8"}
OPENVINO = {"openvino float32", "openvino int8", "openvino binary"}


@pytest.fixture
def script(native: Any, repository: Path, tmp_path: Path) -> Callable[..., tuple[dict[str, Any], str]]:
    """Runs a script with `--json`; what it wrote, and what it printed."""

    def run(name: str, *words: str) -> tuple[dict[str, Any], str]:
        file = tmp_path / "rows.json"
        path = repository / "benchmarks" / "cpu" / f"{name}.py"
        environment = os.environ | {"PYTHONPATH": str(repository), VARIABLE: str(native.path)}
        command = [sys.executable, str(path), "--json", str(file), *words]
        answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert answer.returncode == 0, answer.stderr
        return json.loads(file.read_text("utf-8")), answer.stdout

    return run


def test_bench_layers(script: Callable[..., tuple[dict[str, Any], str]], native: Any) -> None:
    pytest.importorskip("openvino")
    content, table = script("bench_layers", "--rounds", "1", "--threads", "2")
    assert {"machine", "software", "rounds", "products_per_ns", "rows"} == content.keys()
    assert [row["threads"] for row in content["rows"]] == [2] * LAYERS
    sets = content["products_per_ns"].keys()
    assert sets <= set(native.kernels())
    for speeds in content["products_per_ns"].values():
        assert speeds["inner_loop"] > 0 and speeds["vector_ceiling"] > 0
    for row in content["rows"]:
        assert row["times"].keys() == CONTENDERS | OPENVINO | sets
        assert row["times"]["onnxruntime float32"]["ratio"] == 1.0
        assert row["share_of_ceiling"].keys() == sets
    assert table.count("\n") == 2 + len(content["rows"]) + 2 * len(sets)


def test_bench_zoo(script: Callable[..., tuple[dict[str, Any], str]]) -> None:
    runners = ["onnxruntime-float", "native-cpu"]
    content, tables = script("bench_zoo", "nin", "--threads", "1", "--seconds", "0", "--runner", *runners)
    (network,) = content["networks"]
    assert network["model"] == "nin" and network["weights"] == "shipped"
    for before, after in (network[name] for name in ("nodes", "kernels", "file_bytes", "activation_bytes")):
        assert after < before
    assert [(row["model"], row["runner"]) for row in content["rows"]] == [("nin", runner) for runner in runners]
    assert tables.count("| `nin` |") == 2
