"""The float twin of a deployed file: it computes the same, in standard ops alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from bnn_deploy.bits import pack_bits
from bnn_deploy.errors import InputRefused
from bnn_deploy.passes import float_twin
from bnn_deploy.passes.unpack_float import UnpackFloatPass

INFINITY = np.inf
# Both are evaluated in float64, of the same float32 constants: only the order of a few roundings differs.
TOLERANCE = 1e-12

NETWORKS = (
    "Residual", "Spatial", "Ternary", "Unipolar", "Assorted", "Fused", "Repeated", "InPlace", "TwoInputs", "Rectified",
    "FloatBehindBinary", "UnipolarChain",
)  # fmt: skip


@pytest.mark.parametrize("network", NETWORKS)
def test_whole_networks(network: str, deployed: Callable[..., Any], toolbox: Any) -> None:
    given = deployed(network)
    before = given.proto()
    twin = float_twin(before)
    assert before == given.proto()
    onnx.checker.check_model(twin, full_check=True)
    assert {node.domain for node in twin.graph.node} == {""}
    assert not twin.functions and {entry.domain for entry in twin.opset_import} == {""}
    assert list(twin.graph.input) == list(before.graph.input)
    assert list(twin.graph.output) == list(before.graph.output)
    feeds = {name: array.astype(np.float64) for name, array in given.feeds.items()}
    for found, expected in zip(toolbox.evaluate(twin, **feeds), toolbox.evaluate(before, **feeds), strict=True):
        assert toolbox.close(found, expected, tolerance=TOLERANCE)
    assert all(np.isfinite(y).all() for y in toolbox.run_in_onnxruntime(twin, given.feeds))


def bounds(kind: str, channels: int) -> tuple[Any, Any]:
    """Thresholds of a channel each, with exact hits among them: x is a multiple of 1/2."""
    middle = np.float32(np.arange(channels) % 3 - 1) / 2
    nothing, everything = np.full(channels, -INFINITY, np.float32), np.full(channels, INFINITY, np.float32)
    turned = np.arange(channels) % 2 == 1
    return {
        "at least": (middle, everything),
        "at most": (nothing, middle),
        "of either direction": (np.where(turned, nothing, middle), np.where(turned, middle, everything)),
        "between": (middle - 1, middle + 1),
        "some between": (np.where(turned, middle - 1, nothing), np.where(turned, middle, everything)),
        "always and never": (np.where(turned, everything, nothing), np.where(turned, nothing, everything)),
        "the same for all": (np.float32([0.5]), np.float32([INFINITY])),
    }[kind]


@pytest.mark.parametrize("low", [-1.0, 0.0])
@pytest.mark.parametrize("pad_value", [0.0, 1.0])
@pytest.mark.parametrize(
    "kind",
    ["at least", "at most", "of either direction", "between", "some between", "always and never", "the same for all"],
)
def test_intervals_pools_and_bits(kind: str, pad_value: float, low: float, toolbox: Any) -> None:
    """x -> PackInterval -> PackedMaxPool2d -> PackedConv2dBits -> PackedConv2dAddClipPack -> PackedConv2d."""
    channels, outputs = 6, 34
    generator = np.random.default_rng(3)
    draft = toolbox.Draft(x=["batch", channels, 9, 8], residual=["batch", outputs, 4, 4])

    def constant(name: str, array: Any) -> ir.Value:
        return draft.constant(name, array)

    def ours(op_type: str, *operands: ir.Value, **attributes: Any) -> ir.Value:
        return draft.op(op_type, *operands, domain="bnn_deploy", **attributes)

    def words(name: str, outputs: int, channels: int, size: int) -> ir.Value:
        return constant(name, pack_bits(generator.random((outputs, size, size, channels)) < 0.5))

    geometry = {"strides": [1, 1], "dilations": [1, 1], "pad_value": pad_value, "low": low}
    interval = [constant(f"bound{index}", array) for index, array in enumerate(bounds(kind, channels))]
    packed = ours("PackInterval", draft["x"], *interval, channels=channels)
    flip = constant("flip", pack_bits(np.arange(channels) % 2 == 0))
    window = {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 0, 0]}
    pooled = ours("PackedMaxPool2d", packed, flip, channels=channels, **window)
    accumulator_bounds = (np.int32([-(2**31), -2] * 17), np.int32([3, 2**31 - 1] * 17))
    operands = [constant(f"b{index}", array) for index, array in enumerate(accumulator_bounds)]
    first = words("w1", outputs, channels // 2, 3)
    bits = ours("PackedConv2dBits", pooled, first, *operands, channels=channels, group=2, pads=[1, 1, 1, 1], **geometry)
    scale, bias = (constant(name, generator.standard_normal(outputs).astype(np.float32)) for name in ("s", "b"))
    ends = [constant(f"e{index}", array) for index, array in enumerate(bounds("of either direction", outputs))]
    y = ours(
        "PackedConv2dAddClipPack", bits, words("w2", outputs, outputs, 1), scale, bias, draft["residual"], *ends,
        channels=outputs, group=1, pads=[0, 0, 0, 0], clip_low=-3.0, clip_high=INFINITY, num_outputs=2, **geometry,
    )  # fmt: skip
    node = y.producer()
    assert node is not None
    node.outputs[1].name = "more_bits"
    last = ours(
        "PackedConv2d", node.outputs[1], words("w3", outputs, outputs, 1), scale, bias,
        channels=outputs, group=1, pads=[0, 0, 0, 0], **geometry,
    )  # fmt: skip
    model = draft.model(last, y)
    feeds = {
        "x": generator.integers(-4, 4, (2, channels, 9, 8)) / 2,
        "residual": generator.integers(-4, 4, (2, outputs, 4, 4)) / 2,
    }
    expected = toolbox.evaluate(model, **feeds)
    assert all(len(np.unique(array)) > 20 for array in expected)
    result = UnpackFloatPass()(model)
    assert getattr(result, "changes", 0) == 5
    assert {node.domain for node in model.graph} == {""}
    for found, wanted in zip(toolbox.evaluate(model, **feeds), expected, strict=True):
        assert toolbox.close(found, wanted, tolerance=TOLERANCE)


@pytest.mark.parametrize(("network", "comparisons"), [("Residual", 2), ("Repeated", 6)])
def test_a_bound_on_one_side_is_one_comparison(network: str, comparisons: int, deployed: Callable[..., Any]) -> None:
    """Also one of integers, whose other end is only as far away as they reach."""
    types = [node.op_type for node in float_twin(deployed(network).proto()).graph.node]
    assert types.count("GreaterOrEqual") == types.count("Where") == comparisons
    assert not {"And", "LessOrEqual", "Mul", "Pad"} & set(types)


def test_weights_that_are_no_constants_are_refused_by_name(deployed: Callable[..., Any]) -> None:
    model = deployed("Spatial").proto()
    (layer,) = [node for node in model.graph.node if node.name == "conv"]
    model.graph.input.append(onnx.helper.make_tensor_value_info("given", onnx.TensorProto.INT32, None))
    layer.input[1] = "given"
    with pytest.raises(InputRefused, match="given: not a constant; wanted: a deployed file"):
        float_twin(model)


def test_bits_that_are_read_in_two_ways_are_refused(deployed: Callable[..., Any]) -> None:
    model = deployed("Spatial").proto()
    (layer,) = [node for node in model.graph.node if node.name == "conv"]
    twin = model.graph.node.add()
    twin.CopyFrom(layer)
    twin.output[0], twin.name = "other", "other"
    next(entry for entry in twin.attribute if entry.name == "low").f = 0.0
    model.graph.output.append(onnx.helper.make_tensor_value_info("other", onnx.TensorProto.FLOAT, None))
    with pytest.raises(InputRefused, match=r"bits read as \[-1.0, 0.0\]; wanted: one meaning of 0"):
        float_twin(model)


def test_a_float16_file_is_refused(deployed: Callable[..., Any]) -> None:
    model = deployed("Spatial").proto()
    (layer,) = [node for node in model.graph.node if node.name == "conv"]
    layer.op_type = f"{layer.op_type}Fp16"
    with pytest.raises(InputRefused, match="conv: a float16 layer; wanted: a float32 file"):
        float_twin(model)
