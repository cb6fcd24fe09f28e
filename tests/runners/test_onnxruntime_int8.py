from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from bnn_deploy.passes import float_twin
from bnn_deploy.quantisation import quantise
from bnn_deploy.runners.onnxruntime import OnnxRuntimeRunner
from bnn_deploy.runners.onnxruntime_int8 import OnnxRuntimeInt8Runner

TOLERANCE = 0.02  # a few layers on 8 bits, relative to the largest output


def test_it_computes_about_the_same(deployed: Callable[..., Any], tmp_path: Path) -> None:
    """The network binarises its inputs: nothing rounds ahead of a threshold, where 8 bits would turn signs."""
    given = deployed("TwoInputs")
    onnx.save(float_twin(given.proto()), tmp_path / "float.onnx")
    quantise(tmp_path / "float.onnx", tmp_path / "int8.onnx", [given.feeds])
    runner = OnnxRuntimeInt8Runner(tmp_path / "int8.onnx", threads=1)
    found, expected = runner.infer(given.feeds), OnnxRuntimeRunner(given.path).infer(given.feeds)
    for name, y in expected.items():
        np.testing.assert_allclose(found[name], y, rtol=0, atol=TOLERANCE * float(np.abs(y).max()))
    assert any(not np.array_equal(found[name], y) for name, y in expected.items())
    assert runner.name == "onnxruntime-int8"
