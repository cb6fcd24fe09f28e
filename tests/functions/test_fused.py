"""Bodies of the fused ops in stock ONNX Runtime: bit-equal to the documented float32 steps, optimised or as written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from bnn_deploy import bits, opset
from bnn_deploy.functions import function_body
from bnn_deploy.reference import Geometry, accumulate_conv2d, accumulate_linear

Array = NDArray[Any]
LAYOUTS = [(33, 5, 1), (64, 34, 2), (7, 33, 1)]  # channels, outputs, groups
GEOMETRY = {"strides": [2, 1], "pads": [1, 0, 1, 2], "dilations": [1, 2], "pad_value": 0.0}
INT32 = np.iinfo(np.int32)


def run(
    op_type: str,
    feeds: Mapping[str, Array],
    constants: Mapping[str, Array],
    attributes: Mapping[str, Any],
    outputs: Sequence[str],
) -> list[Array]:
    """The outputs of a model of one node, the same with ONNX Runtime's optimizations and without."""
    node = helper.make_node(op_type, [*feeds, *constants], outputs, domain=opset.DOMAIN, name="node", **attributes)
    graph = helper.make_graph(
        [node],
        "one op",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in feeds.items()
        ],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    imports = [helper.make_opsetid("", opset.ONNX_OPSET), helper.make_opsetid(opset.DOMAIN, opset.VERSION)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=opset.ONNX_IR_VERSION)
    model.functions.append(function_body(op_type))
    results = []
    for level in ("ORT_ENABLE_ALL", "ORT_DISABLE_ALL"):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        results.append(session.run(None, dict(feeds)))
    for optimised, written in zip(*results, strict=True):
        np.testing.assert_array_equal(optimised, written)
    return [np.asarray(array) for array in results[0]]


def column(array: Array) -> Array:
    return array[:, None, None]


def packed(inside: Array) -> Array:
    """inside: [N, O, *spatial] bool -> [N, *spatial, words]."""
    return bits.pack_bits(np.moveaxis(inside, 1, -1))


def draw(seed: int, channels: int, outputs: int, groups: int) -> tuple[Array, Array, Array]:
    """(activations, weights, accumulator) of a convolution: packed, packed, [N, O, H', W'] int32."""
    generator = np.random.default_rng(seed)
    x = generator.choice(np.array([-1, 1], np.int8), (2, channels, 6, 7))
    weight = generator.choice(np.array([-1, 1], np.int8), (outputs, channels // groups, 3, 3))
    geometry = Geometry((2, 1), (1, 0, 1, 2), (1, 2), groups, 0.0)
    return packed(x > 0), packed(weight > 0), accumulate_conv2d(x, weight, geometry)


@pytest.mark.parametrize(("channels", "outputs", "groups"), [(c, o, g) for c, o, g in LAYOUTS if o % g == 0])
@pytest.mark.parametrize("epilogue", opset.EPILOGUES.values(), ids=opset.EPILOGUES)
def test_every_epilogue(epilogue: opset.Epilogue, channels: int, outputs: int, groups: int) -> None:
    x, weight, accumulator = draw(0, channels, outputs, groups)
    generator = np.random.default_rng(1)
    scale, bias, slope, shift = (generator.standard_normal(outputs).astype(np.float32) for _ in range(4))
    scale[0] = 0
    lower, upper = (sign * np.abs(generator.standard_normal(outputs)).astype(np.float32) * 5 for sign in (-1, 1))
    lower[0], upper[1], lower[2], upper[2] = -np.inf, np.inf, 1, 0  # no lower end, no upper end, never
    residual = generator.standard_normal(accumulator.shape).astype(np.float32)
    residual.flat[:4] = [np.nan, np.inf, -np.inf, -0.0]

    z = column(scale) * accumulator.astype(np.float32)
    z = z + column(bias)
    if epilogue.residual:
        z = z + residual
    if epilogue.activation == opset.PRELU:
        with np.errstate(invalid="ignore"):
            z = np.where(z >= 0, z, column(slope) * z)
        z = z + column(shift)
    if epilogue.activation == opset.CLIP:
        z = np.minimum(np.maximum(z, np.float32(-3)), np.float32(4))

    operands = {"slope": slope, "shift": shift, "lower": lower, "upper": upper}
    attributes = {**GEOMETRY, "channels": channels, "low": -1.0, "group": groups}
    if epilogue.activation == opset.CLIP:
        attributes |= {"clip_low": -3.0, "clip_high": 4.0}
    # Inputs stand in the order of the op; the packed activations and the residual are fed, the rest is constant.
    order: dict[str, Array] = {"packed": x, "weight": weight, "scale": scale, "bias": bias}
    order |= {name: residual if name == "residual" else operands[name] for name in epilogue.operands}
    found = run(epilogue.op_type, order, {}, attributes, ["y", "bits"] if epilogue.packs else ["y"])
    np.testing.assert_array_equal(found[0], z)
    assert found[0].dtype == np.float32
    if epilogue.packs:
        np.testing.assert_array_equal(found[1], packed((column(lower) <= z) & (z <= column(upper))))


@pytest.mark.parametrize(("channels", "outputs", "groups"), [(c, o, g) for c, o, g in LAYOUTS if o % g == 0])
def test_bits_to_bits(channels: int, outputs: int, groups: int) -> None:
    x, weight, accumulator = draw(2, channels, outputs, groups)
    generator = np.random.default_rng(3)
    lower, upper = (generator.integers(low, high, outputs, np.int32) for low, high in ((-9, 3), (-3, 9)))
    lower[0], upper[0], lower[1], upper[1], lower[2], upper[2] = INT32.min, 0, 0, INT32.max, 1, 0
    attributes = {**GEOMETRY, "channels": channels, "low": -1.0, "group": groups}
    constants = {"weight": weight, "lower": lower, "upper": upper}
    (found,) = run(opset.PACKED_CONV2D_BITS, {"packed": x}, constants, attributes, ["bits"])
    np.testing.assert_array_equal(found, packed((column(lower) <= accumulator) & (accumulator <= column(upper))))


def test_bits_to_bits_fully_connected() -> None:
    generator = np.random.default_rng(4)
    x, weight = (generator.choice(np.array([-1, 1], np.int8), shape) for shape in ((7, 70), (40, 70)))
    lower, upper = (generator.integers(low, high, 40, np.int32) for low, high in ((-9, 3), (-3, 9)))
    accumulator = accumulate_linear(x, weight)
    constants = {"weight": packed(weight > 0), "lower": lower, "upper": upper}
    feeds = {"packed": packed(x > 0)}
    (found,) = run(opset.PACKED_LINEAR_BITS, feeds, constants, {"channels": 70, "low": -1.0}, ["bits"])
    np.testing.assert_array_equal(found, packed((lower <= accumulator) & (accumulator <= upper)))


@pytest.mark.parametrize("shape", [(2, 33), (2, 33, 3, 4), (1, 64, 1, 1)])
@pytest.mark.parametrize("shared", [False, True])
def test_an_interval_of_real_values(shape: tuple[int, ...], shared: bool) -> None:
    generator = np.random.default_rng(5)
    x = generator.standard_normal(shape).astype(np.float32)
    x.flat[:5] = [np.nan, np.inf, -np.inf, 0.0, -0.0]
    bounds = (-0.5 * np.ones(1, np.float32), np.ones(1, np.float32))
    if not shared:
        bounds = tuple(sign * np.abs(generator.standard_normal(shape[1])).astype(np.float32) for sign in (-1, 1))  # type: ignore[assignment]
    lower, upper = (np.reshape(bound, (-1, *[1] * (len(shape) - 2))) for bound in bounds)
    constants = {"lower": bounds[0], "upper": bounds[1]}
    (found,) = run(opset.PACK_INTERVAL, {"x": x}, constants, {"channels": shape[1]}, ["packed"])
    np.testing.assert_array_equal(found, packed((lower <= x) & (x <= upper)))


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 2, 1), (2, 2, 0), (3, 1, 1), (1, 1, 0)])
def test_pooled_bits(kernel: int, stride: int, padding: int) -> None:
    """OR, or AND where the flip bit is 1: `max` and `min` of the bits, by PyTorch."""
    generator = np.random.default_rng(6)
    x, flip = generator.random((2, 40, 7, 9)) < 0.5, generator.random(40) < 0.5
    turned = torch.from_numpy((x ^ column(flip)).astype(np.float32))
    pooled = torch.nn.functional.max_pool2d(turned, kernel, stride, padding).numpy() > 0.5
    window = {"channels": 40, "kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [padding] * 4}
    constants = {"flip": bits.pack_bits(flip)}
    (found,) = run(opset.PACKED_MAX_POOL2D, {"packed": packed(x)}, constants, window, ["bits"])
    np.testing.assert_array_equal(found, packed(pooled ^ column(flip)))
