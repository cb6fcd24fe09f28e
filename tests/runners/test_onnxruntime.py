from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from bnn_deploy.errors import InputRefused
from bnn_deploy.runners.onnxruntime import OnnxRuntimeRunner


def test_a_file_and_a_model_in_memory_give_the_same(deployed: Callable[..., Any]) -> None:
    given = deployed("Residual")
    runners = [
        OnnxRuntimeRunner(given.path),
        OnnxRuntimeRunner(str(given.path), threads=1),
        OnnxRuntimeRunner(given.proto()),
    ]
    first, *others = (runner.infer(given.feeds) for runner in runners)
    assert list(first) == ["output"]
    for other in others:
        np.testing.assert_array_equal(other["output"], first["output"])
    assert runners[0].inputs == {"x": ("batch", 3, 4, 4)}
    assert runners[0].outputs == ["output"]


def test_no_file_and_no_model(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match=r"none.onnx: no such file; wanted: an ONNX file"):
        OnnxRuntimeRunner(tmp_path / "none.onnx")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"\x08\x0a no model at all")
    with pytest.raises(InputRefused, match=r"broken.onnx: ONNX Runtime [\d.]+ does not load it: "):
        OnnxRuntimeRunner(broken)
    with pytest.raises(InputRefused, match=r"the model: ONNX Runtime [\d.]+ does not load it: "):
        OnnxRuntimeRunner(onnx.ModelProto())


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((1, 3, 5, 4), np.float32), "onnxruntime: input 'x': shape 1x3x5x4; wanted: shape batchx3x4x4"),
        (np.zeros((1, 3, 4, 4), np.float64), "onnxruntime: ONNX Runtime failed: .*double"),
    ],
)
def test_inputs_that_do_not_fit(x: Any, message: str, deployed: Callable[..., Any]) -> None:
    with pytest.raises(InputRefused, match=message):
        OnnxRuntimeRunner(deployed("Residual").path).infer({"x": x})


def test_the_optimiser_may_be_switched_off() -> None:
    """ONNX Runtime folds a constant product into the weights of a convolution; as written, the product comes after."""
    x = np.float32([[[[2.0**-100]]]])
    big, small = np.float32([[[[2.0**60]]]]), np.float32(2.0**90)
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"]), helper.make_node("Mul", ["y", "c"], ["z"])]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "folding",
        [value("x", TensorProto.FLOAT, [1, 1, 1, 1])],
        [value("z", TensorProto.FLOAT, [1, 1, 1, 1])],
        [onnx.numpy_helper.from_array(big, "w"), onnx.numpy_helper.from_array(small.reshape(1, 1, 1, 1), "c")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    assert OnnxRuntimeRunner(model, optimise=False).infer({"x": x})["z"].item() == 2.0**50
    assert np.isinf(OnnxRuntimeRunner(model, optimise=True).infer({"x": x})["z"].item())


@pytest.mark.parametrize("optimise", [True, False])
def test_the_optimiser_leaves_accumulators_integers(optimise: bool, deployed: Callable[..., Any]) -> None:
    """`scale * accumulator + bias` in float32 with an integer accumulator, to the last bit: nothing was folded."""
    given = deployed("Spatial")
    proto = given.proto()
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    (layer,) = [node for node in proto.graph.node if node.name == "conv"]
    scale, bias = (arrays[name].reshape(-1, 1, 1) for name in layer.input[2:4])
    found = OnnxRuntimeRunner(given.path, optimise=optimise).infer(given.feeds)["output"]
    accumulator = np.rint((found.astype(np.float64) - bias) / scale).astype(np.float32)
    assert len(np.unique(accumulator)) > 10
    np.testing.assert_array_equal(found, scale * accumulator + bias)
