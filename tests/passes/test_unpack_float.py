"""The float twin of a deployed file: it computes the same, in standard ops alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from bnn_deploy import opset
from bnn_deploy.bits import pack_bits
from bnn_deploy.errors import InputRefused
from bnn_deploy.passes import float_twin
from bnn_deploy.passes.attach_functions import AttachFunctionsPass
from bnn_deploy.passes.float16 import SMALLEST_NORMAL, UNIT_ROUNDOFF
from bnn_deploy.passes.unpack_float import UnpackFloatPass

INFINITY, HALF = np.inf, ir.DataType.FLOAT16
CHANNELS, OUTPUTS = 6, 34
# Both are evaluated in float64, of the same float32 constants: only the order of a few roundings differs.
TOLERANCE = 1e-12

NETWORKS = (
    "Residual", "Spatial", "Ternary", "Unipolar", "Assorted", "Fused", "Repeated", "InPlace", "TwoInputs", "Rectified",
    "FloatBehindBinary", "UnipolarChain", "Stemmed",
)  # fmt: skip

# Sums in front of a binarisation are exactly 0: how a runtime rounds decides their signs, in files of either precision.
WITH_TIES = ("Unipolar", "Repeated", "FloatBehindBinary")
# Of one value to float16, between the input and an output of these networks, at most; no sums in them cancel.
ROUNDINGS = 6


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


def constants_of(model: onnx.ModelProto) -> list[NDArray[Any]]:
    """What the nodes read of initializers, in their order."""
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return [arrays[name] for node in model.graph.node for name in node.input if name in arrays]


def float_types(model: onnx.ModelProto) -> set[int]:
    """The float types among all that the model says of constants, tensors and casts."""
    found = {tensor.data_type for tensor in model.graph.initializer}
    found |= {value.type.tensor_type.elem_type for value in (*model.graph.value_info, *model.graph.output)}
    found |= {entry.i for node in model.graph.node for entry in node.attribute if entry.name == "to"}
    return found & {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16}


def layer_on_float16(op_type: str, toolbox: Any) -> onnx.ModelProto:
    """x -> float16 [-> bits] -> the layer -> float32; bits that it writes are read by a layer whose sums are returned.

    Numbers are few multiples of 2^-12: their sums and products are exact in float32, and not in float16.
    """
    epilogue, linear = opset.EPILOGUES.get(op_type, opset.Epilogue()), op_type in opset.LINEAR_OPS
    image = [] if linear else [5, 5]
    shapes = {"x": ["batch", CHANNELS, *image]} | ({"residual": ["batch", OUTPUTS, 5, 5]} if epilogue.residual else {})
    draft, generator = toolbox.Draft(**shapes), np.random.default_rng(2)
    geometry = {"strides": [1, 1], "dilations": [1, 1], "group": 1, "pad_value": 0.0}

    def op(op_type: str, dtype: ir.DataType, *operands: ir.Value | None, domain: str = "", **given: Any) -> ir.Value:
        value: ir.Value = draft.op(op_type, *operands, domain=domain, **given)
        value.type = ir.TensorType(dtype)
        return value

    def words(name: str, *shape: int) -> ir.Value:
        value: ir.Value = draft.constant(name, pack_bits(generator.random(shape) < 0.5))
        return value

    def eighths(name: str) -> ir.Value:
        value: ir.Value = draft.constant(name, generator.integers(-4, 5, OUTPUTS).astype(np.float32) / 8)
        return value

    halves = {name: op("Cast", HALF, draft[name], to=int(HALF)) for name in shapes}
    x, attributes = halves["x"], {"channels": CHANNELS}
    if op_type in (opset.PACKED_TERNARY_CONV2D, opset.PACKED_TERNARY_LINEAR):
        x = op("PackTernary", ir.DataType.INT32, x, domain=opset.DOMAIN, **attributes)
    elif op_type in (*opset.EPILOGUES, opset.PACKED_LINEAR):
        zero = draft.constant("zero", [0.0])
        x = op("PackBipolar", ir.DataType.INT32, x, zero, domain=opset.DOMAIN, **attributes)
        attributes |= {"low": -1.0}
    weight = words("weight", OUTPUTS, *([] if linear else [3, 3]), CHANNELS)
    bias = draft.constant("bias", (generator.integers(-99, 100, OUTPUTS) * 2.0**-12).astype(np.float32))
    rest = [halves["residual"] if name == "residual" else eighths(name) for name in epilogue.operands]
    attributes |= {} if linear else {**geometry, "pads": [1, 1, 1, 1]}
    attributes |= {"clip_low": -2.0, "clip_high": 2.0} if epilogue.activation == opset.CLIP else {}
    y = op(
        opset.FLOAT16_OPS[op_type], HALF, x, weight, eighths("scale"), bias, *rest,
        domain=opset.DOMAIN, num_outputs=1 + epilogue.packs, **attributes,
    )  # fmt: skip
    outputs = [op("Cast", ir.DataType.FLOAT, y, to=int(ir.DataType.FLOAT))]
    if epilogue.packs:
        node = y.producer()
        assert node is not None
        node.outputs[1].name, node.outputs[1].type = "bits", ir.TensorType(ir.DataType.INT32)
        reader = {**geometry, "channels": OUTPUTS, "pads": [0, 0, 0, 0], "low": -1.0}
        operands = [words("w2", 3, 1, 1, OUTPUTS), draft.constant("one", [1.0] * 3), draft.constant("none", [0.0] * 3)]
        outputs.append(op("PackedConv2d", ir.DataType.FLOAT, node.outputs[1], *operands, domain=opset.DOMAIN, **reader))
    model = draft.model(*outputs)
    AttachFunctionsPass()(model)
    return ir.to_proto(model)


class TestFloat16:
    """The twin of a float16 file is float32: what stands between its 1-bit layers is widened."""

    @pytest.mark.parametrize("network", NETWORKS)
    def test_is_the_float32_twin_of_rounded_constants(self, network: str, deployed: Callable[..., Any]) -> None:
        before = deployed(network, precision=opset.FP16).proto()
        twin, wanted = float_twin(before), float_twin(deployed(network).proto())
        onnx.checker.check_model(twin, full_check=True)
        assert float_types(twin) == {onnx.TensorProto.FLOAT}
        assert opset.PRECISION not in {entry.key for entry in twin.metadata_props}
        assert list(twin.graph.input) == list(before.graph.input)
        assert list(twin.graph.output) == list(before.graph.output)
        assert [node.op_type for node in twin.graph.node] == [node.op_type for node in wanted.graph.node]
        for found, exact in zip(constants_of(twin), constants_of(wanted), strict=True):
            np.testing.assert_allclose(found, exact, rtol=UNIT_ROUNDOFF, atol=SMALLEST_NORMAL * UNIT_ROUNDOFF)

    @pytest.mark.parametrize("network", [name for name in NETWORKS if name not in WITH_TIES])
    def test_outputs(self, network: str, deployed: Callable[..., Any], toolbox: Any) -> None:
        given = deployed(network, precision=opset.FP16)
        expected = toolbox.run_in_onnxruntime(given.proto(), given.feeds)
        for found, wanted in zip(
            toolbox.run_in_onnxruntime(float_twin(given.proto()), given.feeds), expected, strict=True
        ):
            assert toolbox.close(found, wanted, tolerance=ROUNDINGS * UNIT_ROUNDOFF)

    @pytest.mark.parametrize("op_type", opset.FLOAT16_OPS)
    def test_every_layer(self, op_type: str, toolbox: Any) -> None:
        """y is the twin's, rounded once; bits, which are decided before that, are the twin's."""
        model = layer_on_float16(op_type, toolbox)
        twin = float_twin(model)
        assert {node.domain for node in twin.graph.node} == {""} and float_types(twin) == {onnx.TensorProto.FLOAT}
        generator, feeds = np.random.default_rng(5), {}
        for value in model.graph.input:
            shape = [size.dim_value or 3 for size in value.type.tensor_type.shape.dim]
            feeds[value.name] = generator.integers(-4, 5, shape).astype(np.float32) / 2
        found, *sums = toolbox.run_in_onnxruntime(model, feeds)
        exact, *wanted = toolbox.run_in_onnxruntime(twin, feeds)
        np.testing.assert_array_equal(found, exact.astype(np.float16).astype(np.float32))
        assert (found != exact).any()
        for array, expected in zip(sums, wanted, strict=True):
            np.testing.assert_array_equal(array, expected)
            assert len(np.unique(array)) > 5
