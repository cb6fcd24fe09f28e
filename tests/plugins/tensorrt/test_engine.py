"""TensorRT-RTX parses every op to its plugin, with the function body's shapes and types, and builds an engine of it."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plugin_cases import EVEN, ODD, OPS, random_case

from bnn_deploy.runners.onnxruntime import OnnxRuntimeRunner

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64",
    reason="TensorRT comes as wheels for Linux on x86-64 only",
)


@pytest.fixture(scope="module")
def engines(plugin_path: Path) -> dict[str, Any]:
    """Op -> what `engine_child.py` found."""
    child = Path(__file__).with_name("engine_child.py")
    ran = subprocess.run([sys.executable, child, plugin_path], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("op", OPS)
def test_every_op(engines: dict[str, Any], generator: np.random.Generator, op: str) -> None:
    for sizes, found in zip((ODD, EVEN), engines[op], strict=True):
        case = random_case(op, generator, sizes)
        expected = OnnxRuntimeRunner(case.model()).infer(case.inputs).values()
        assert found.get("errors") is None
        assert found["layers"] == ["PLUGIN_V3"]
        assert found["outputs"] == [[list(array.shape), array.dtype.name] for array in expected]
        assert found["bytes"] > 0
