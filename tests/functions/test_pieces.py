"""float16 at the edges of the bodies: what is read has been rounded, what is written is rounded, whatever stands there.

ONNX Runtime's CPU provider computes most float16 operators in float32, with casts of its own around them, and cancels
pairs of casts. `AveragePool` is such an operator.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from bnn_deploy import opset
from bnn_deploy.bits import pack_bits
from bnn_deploy.functions import function_body

CONV = "strides = [1, 1], pads = [0, 0, 0, 0], dilations = [1, 1], group = 1, pad_value = 0.0"
TENTH = np.float32(0.1)


def run(text: str, feeds: dict[str, NDArray[Any]], constants: dict[str, NDArray[Any]], *, optimise: bool) -> Any:
    """The one output of a network in stock ONNX Runtime."""
    header = f'<ir_version: {opset.ONNX_IR_VERSION}, opset_import: ["" : {opset.ONNX_OPSET}, "bnn_deploy" : 1]>'
    model = onnx.parser.parse_model(header + text)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    used = {node.op_type for node in model.graph.node if node.domain == opset.DOMAIN}
    model.functions.extend(function_body(op_type) for op_type in sorted(used))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


def layer_constants(channels: int, bias: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """One output for each channel's bias; the weights add up to nothing that matters, for the scale is 0."""
    outputs = len(bias)
    weight = pack_bits(np.ones((outputs, 1, 1, channels), bool))
    return {"weight": weight, "scale": np.zeros(outputs, np.float32), "bias": bias}


@pytest.mark.parametrize("optimise", [True, False])
class TestRounding:
    def test_of_what_is_packed(self, optimise: bool) -> None:
        """The average of two neighbours is a tie; thresholds lie around it and around what it is rounded to."""
        x = np.array([[[[1.0 + 2.0**-10, 1.0 + 2.0**-9]]]], np.float16)
        rounded = np.float32(x.astype(np.float32).mean().astype(np.float16))
        text = """net (float16[1, 1, 1, 2] x) => (int32[1, 1, 1, 1] bits) {
            pooled = AveragePool <kernel_shape = [1, 2]> (x)
            bits = bnn_deploy.PackBipolar <channels = 1> (pooled, threshold)
        }"""
        for threshold in np.linspace(x.min(), x.max(), 9, dtype=np.float32):
            (bits,) = run(text, {"x": x}, {"threshold": np.array([threshold])}, optimise=optimise).reshape(-1)
            assert bits == int(rounded >= threshold)

    def test_of_a_shortcut(self, optimise: bool) -> None:
        x = np.array([[[[1.0, 1.0 + 2.0**-10, 1.0 + 2.0**-10, 1.0 + 2.0**-10]]]], np.float16)  # mean 1 + 3 * 2**-12
        text = f"""net (float16[1, 1, 1, 4] x, int32[1, 1, 1, 1] packed) => (float16[1, 1, 1, 1] y) {{
            residual = AveragePool <kernel_shape = [1, 4]> (x)
            y = bnn_deploy.PackedConv2dAddFp16 <channels = 1, low = -1.0, {CONV}> (
                packed, weight, scale, bias, residual)
        }}"""
        bias = np.array([-1.0], np.float32)
        packed = np.zeros((1, 1, 1, 1), np.int32)
        y = run(text, {"x": x, "packed": packed}, layer_constants(1, bias), optimise=optimise)
        assert y.reshape(-1) == [np.float16(2.0**-10)]

    def test_of_what_is_written(self, optimise: bool) -> None:
        text = f"""net (int32[1, 1, 2, 1] packed) => (float[1, 1, 1, 1] pooled) {{
            y = bnn_deploy.PackedConv2dFp16 <channels = 1, low = -1.0, {CONV}> (packed, weight, scale, bias)
            average = AveragePool <kernel_shape = [1, 2]> (y)
            pooled = Cast <to = 1> (average)
        }}"""
        packed = np.zeros((1, 1, 2, 1), np.int32)
        pooled = run(text, {"packed": packed}, layer_constants(1, np.array([TENTH])), optimise=optimise)
        assert pooled.reshape(-1) == [np.float32(np.float16(TENTH))]


@pytest.mark.parametrize("op_type", [opset.BINARY_WEIGHT_CONV2D, opset.BINARY_WEIGHT_LINEAR])
def test_real_activations_are_widened(op_type: str) -> None:
    """x of float16 has the sums of the same x in float32; y is the float32 y, rounded."""
    generator = np.random.default_rng(3)
    is_conv = op_type == opset.BINARY_WEIGHT_CONV2D
    shape = (2, 40, 3, 2) if is_conv else (2, 40)
    x = generator.standard_normal(shape).astype(np.float16)
    weight = pack_bits(generator.random((5, 1, 1, 40) if is_conv else (5, 40)) < 0.5)
    scale, bias = generator.standard_normal((2, 5)).astype(np.float32)
    constants = {"weight": weight, "scale": scale, "bias": bias}
    attributes = f"channels = 40, {CONV}" if is_conv else "channels = 40"
    found = {}
    for element, op in (("float", op_type), ("float16", opset.FLOAT16_OPS[op_type])):
        sizes = ", ".join(map(str, shape))
        text = f"""net ({element}[{sizes}] x) => ({element}[{", ".join("n" for _ in shape)}] y) {{
            y = bnn_deploy.{op} <{attributes}> (x, weight, scale, bias)
        }}"""
        dtype = np.float32 if element == "float" else np.float16
        found[element] = run(text, {"x": x.astype(dtype)}, constants, optimise=True)
    assert found["float16"].dtype == np.float16
    np.testing.assert_array_equal(found["float16"], found["float"].astype(np.float16))
