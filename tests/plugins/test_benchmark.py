"""The benchmark script runs, checks what it measures, and writes what it says. Its times are nobody's business here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bnn_deploy.native import VARIABLE


@pytest.mark.skipif(
    "libasan" in os.environ.get("LD_PRELOAD", ""), reason="slow under a sanitizer, and shows nothing new"
)
def test_bench_layers(native: Any, repository: Path, tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    script = repository / "benchmarks" / "cpu" / "bench_layers.py"
    environment = os.environ | {"PYTHONPATH": str(repository), VARIABLE: str(native.path)}
    command = [sys.executable, str(script), "--rounds", "1", "--json", str(file)]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    content = json.loads(file.read_text("utf-8"))
    assert {"processor", "onnxruntime", "threads", "batch", "rounds", "rows"} <= content.keys()
    assert len(content["rows"]) == 7
    assert {"float32", "int8"} < content["rows"][0]["p50_ms"].keys()
    assert answer.stdout.count("\n") == 2 + len(content["rows"])
