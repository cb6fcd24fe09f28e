"""Twins of layers on float16: float32 layers beside them, of what they read."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

from bnn_deploy import opset
from bnn_deploy.bits import pack_bits
from bnn_deploy.functions import function_body
from bnn_deploy.parity.twins import (
    accumulator_name,
    add_accumulator_twin,
    add_wide_twin,
    element_types,
    rounds_behind_bits,
    wide_name,
)
from bnn_deploy.runners.onnxruntime import OnnxRuntimeRunner

HEADER = f'<ir_version: {opset.ONNX_IR_VERSION}, opset_import: ["" : {opset.ONNX_OPSET}, "bnn_deploy" : 1]>'
CONV = "strides = [1, 1], pads = [0, 0, 0, 0], dilations = [1, 1], group = 1, pad_value = 0.0, channels = 40"


def network(text: str, constants: dict[str, Any]) -> tuple[onnx.ModelProto, onnx.NodeProto]:
    """The model, and its node of ours."""
    model = onnx.parser.parse_model(HEADER + text)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    (node,) = [node for node in model.graph.node if node.domain == opset.DOMAIN]
    model.functions.append(function_body(node.op_type))
    return model, node


def constants_of(outputs: int) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    scale, bias = generator.standard_normal((2, outputs)).astype(np.float32)
    weight = pack_bits(generator.random((outputs, 1, 1, 40)) < 0.5)
    bounds = {"lower": np.zeros(outputs, np.float32), "upper": np.full(outputs, np.inf, np.float32)}
    return {"weight": weight, "scale": scale, "bias": bias, **bounds}


@pytest.mark.parametrize("optimise", [True, False])
def test_wide_twin_has_what_the_bits_were_decided_on(optimise: bool) -> None:
    """The shortcut is what a float16 operator makes that ONNX Runtime computes in float32: its rounding counts."""
    text = f"""net (int32[1, 4, 4, 2] packed, float16[1, 33, 4, 4] x) =>
        (float16[1, 33, 4, 4] y, int32[1, 4, 4, 2] bits) <float16[1, 33, 4, 4] residual> {{
        residual = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x)
        y, bits = bnn_deploy.PackedConv2dAddPackFp16 <{CONV}, low = -1.0> (
            packed, weight, scale, bias, residual, lower, upper)
    }}"""
    model, node = network(text, constants_of(33))
    assert rounds_behind_bits(node)
    add_wide_twin(model, node)
    extra = [wide_name(node), f"{wide_name(node)}.bits"]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in extra)
    generator = np.random.default_rng(1)
    packed = pack_bits(generator.random((1, 4, 4, 40)) < 0.5)
    feeds = {"packed": packed, "x": generator.standard_normal((1, 33, 4, 4)).astype(np.float16)}
    found = OnnxRuntimeRunner(model, optimise=optimise).infer(feeds)
    wide = found[wide_name(node)]
    assert wide.dtype == np.float32 and (wide != found["y"]).any()
    np.testing.assert_array_equal(wide.astype(np.float16), found["y"])
    np.testing.assert_array_equal(found[f"{wide_name(node)}.bits"], found["bits"])


def test_accumulator_twin_of_real_activations_is_float32() -> None:
    text = f"""net (float16[1, 40, 4, 4] x) => (float16[1, 5, 4, 4] y) {{
        y = bnn_deploy.BinaryWeightConv2dFp16 <{CONV}> (x, weight, scale, bias)
    }}"""
    constants = constants_of(5)
    model, node = network(text, {name: constants[name] for name in ("weight", "scale", "bias")})
    assert not rounds_behind_bits(node)
    name = add_accumulator_twin(model, node)
    assert name == accumulator_name(node)
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    x = np.random.default_rng(2).standard_normal((1, 40, 4, 4)).astype(np.float16)
    found = OnnxRuntimeRunner(model).infer({"x": x})
    column = {name: constants[name].reshape(-1, 1, 1) for name in ("scale", "bias")}
    expected = (column["scale"] * found[name] + column["bias"]).astype(np.float16)
    assert found[name].dtype == np.float32
    np.testing.assert_array_equal(found["y"], expected)


def test_types_that_the_file_says() -> None:
    model, _ = network(
        f"""net (float16[1, 40, 4, 4] x) => (float16[1, 5, 4, 4] y) <float[1, 5, 4, 4] z> {{
        y = bnn_deploy.BinaryWeightConv2dFp16 <{CONV}> (x, weight, scale, bias)
    }}""",
        {},
    )
    float16 = onnx.TensorProto.FLOAT16
    assert element_types(model) == {"x": float16, "y": float16, "z": onnx.TensorProto.FLOAT}
