"""Every function body, in stock ONNX Runtime and in ONNX's own evaluator, against the definition. Equal, not close."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from bnn_deploy import bits, opset
from bnn_deploy.bits import Levels
from bnn_deploy.functions import function_body

Array = NDArray[Any]
PACKS = [*opset.PACK_OPS.items()]
OPS = (*opset.PACK_OPS.values(), *opset.LAYER_OPS)
LOWS = {Levels.BIPOLAR: -1.0, Levels.UNIPOLAR: 0.0}
GEOMETRY = {"strides": [1, 1], "pads": [0, 0, 0, 0], "dilations": [1, 1], "group": 1, "pad_value": 0.0}

# A sum of real numbers in float32, relative to the sum of their magnitudes (at most 70 * 9 of them here).
FLOAT_SUM_TOLERANCE = 1e-5


def one_op(
    op_type: str, x: Array, constants: Mapping[str, Array], attributes: Mapping[str, Any], version: int = 20
) -> onnx.ModelProto:
    """A model of one node: `x` is the input, with all sizes free, `constants` are initializers."""
    node = helper.make_node(op_type, ["x", *constants], ["y"], domain=opset.DOMAIN, name="node", **attributes)
    kind = helper.np_dtype_to_tensor_dtype(x.dtype)
    made = TensorProto.INT32 if op_type in opset.PACK_OPS.values() else TensorProto.FLOAT
    graph = helper.make_graph(
        [node],
        "one op",
        [helper.make_tensor_value_info("x", kind, [None] * x.ndim)],
        [helper.make_tensor_value_info("y", made, [None] * x.ndim)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    imports = [helper.make_opsetid("", version), helper.make_opsetid(opset.DOMAIN, opset.VERSION)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    model.functions.append(function_body(op_type))
    return model


def choose_levels(levels: Levels, shape: tuple[int, ...], seed: int) -> Array:
    values = {Levels.BIPOLAR: (-1, 1), Levels.UNIPOLAR: (0, 1), Levels.TERNARY: (-1, 0, 1)}[levels]
    return np.random.default_rng(seed).choice(np.array(values, np.int8), size=shape)


def packed_layer(
    x: Array, signs: Array, levels: Levels | None, geometry: Mapping[str, Any], scale: Array, bias: Array
) -> tuple[onnx.ModelProto, Array]:
    """(model, its input) of a convolution (x: [N, C, H, W]) or a fully connected layer ([N, C]).

    Without levels the activations are real.
    """
    is_conv = x.ndim == 4
    attributes: dict[str, Any] = {"channels": x.shape[1], **(geometry if is_conv else {})}
    if levels is None:
        op_type = opset.BINARY_WEIGHT_CONV2D if is_conv else opset.BINARY_WEIGHT_LINEAR
        fed = x
    else:
        op_type = {
            (True, False): opset.PACKED_CONV2D,
            (True, True): opset.PACKED_TERNARY_CONV2D,
            (False, False): opset.PACKED_LINEAR,
            (False, True): opset.PACKED_TERNARY_LINEAR,
        }[is_conv, levels is Levels.TERNARY]
        if levels is not Levels.TERNARY:
            attributes["low"] = LOWS[levels]
        fed = bits.pack_levels(np.moveaxis(x, 1, -1), levels)
    constants = {"weight": bits.pack_levels(np.moveaxis(signs, 1, -1), Levels.BIPOLAR), "scale": scale, "bias": bias}
    return one_op(op_type, fed, constants, attributes), fed


def bare(outputs: int) -> tuple[Array, Array]:
    """The scale and bias that leave the accumulator as it is."""
    return np.ones(outputs, np.float32), np.zeros(outputs, np.float32)


def float32_epilogue(accumulator: Array, scale: Array, bias: Array) -> Array:
    """Two roundings, one after the product and one after the sum. accumulator: [N, O, ...] integers."""
    shape = (-1, *[1] * (accumulator.ndim - 2))
    product = scale.reshape(shape) * accumulator.astype(np.float32)
    return product.astype(np.float32) + bias.reshape(shape)


@pytest.mark.parametrize("optimise", [True, False], ids=["optimised", "as written"])
class TestPack:
    @pytest.mark.parametrize(("levels", "op_type"), PACKS)
    @pytest.mark.parametrize("channels", [1, 31, 32, 33, 64, 70])
    @pytest.mark.parametrize("batch_and_image", [(1, (1, 1)), (7, (3, 2)), (2, ()), (3, (5,))])
    def test_equals_the_definition(
        self,
        toolbox: Any,
        levels: Levels,
        op_type: str,
        channels: int,
        batch_and_image: tuple[int, tuple[int, ...]],
        optimise: bool,
    ) -> None:
        batch, image = batch_and_image
        x = toolbox.adversarial((batch, channels, *image), seed=channels)
        constants = {} if levels is Levels.TERNARY else {"threshold": np.zeros(1, np.float32)}
        model = one_op(op_type, x, constants, {"channels": channels})
        (words,) = toolbox.run_in_onnxruntime(model, {"x": x}, optimise=optimise)
        expected = np.moveaxis(toolbox.binarize(x, str(levels)), 1, -1)
        assert words.dtype == np.int32
        assert words.shape == (batch, *image, levels.planes * -(-channels // 32))
        planes = np.split(words, levels.planes, axis=-1)
        assert (toolbox.bits_of(planes[0], channels) == (expected > 0)).all()
        if levels is Levels.TERNARY:
            assert (toolbox.bits_of(planes[1], channels) == (expected < 0)).all()
        unused = [toolbox.bits_of(plane, 32 * plane.shape[-1])[..., channels:] for plane in planes]
        assert not any(bits_beyond.any() for bits_beyond in unused)

    @pytest.mark.parametrize(("levels", "hit_at_threshold"), [(Levels.BIPOLAR, True), (Levels.UNIPOLAR, False)])
    def test_a_threshold_for_each_channel(
        self, toolbox: Any, levels: Levels, hit_at_threshold: bool, optimise: bool
    ) -> None:
        threshold = np.linspace(-2, 2, 40, dtype=np.float32)
        x = np.broadcast_to(threshold[:, None, None], (2, 40, 3, 2)).copy()
        x[:, ::4] = np.nextafter(x[:, ::4], np.float32(np.inf))
        x[:, 1::4] = np.nextafter(x[:, 1::4], np.float32(-np.inf))
        model = one_op(opset.PACK_OPS[levels], x, {"threshold": threshold}, {"channels": 40})
        (words,) = toolbox.run_in_onnxruntime(model, {"x": x}, optimise=optimise)
        found = toolbox.bits_of(words, 40)
        assert found[..., ::4].all()
        assert not found[..., 1::4].any()
        assert (found[..., 2::4] == hit_at_threshold).all()


geometries = st.fixed_dictionaries(
    {
        "strides": st.lists(st.integers(1, 3), min_size=2, max_size=2),
        "pads": st.lists(st.integers(0, 3), min_size=4, max_size=4),
        "dilations": st.lists(st.integers(1, 2), min_size=2, max_size=2),
        "group": st.integers(1, 3),
        "pad_value": st.sampled_from([-1.0, 0.0, 1.0]),
    }
)


class TestLayers:
    @pytest.mark.parametrize("levels", Levels)
    @settings(max_examples=25)
    @given(
        geometry=geometries,
        per_group=st.sampled_from([1, 3, 31, 32, 33]),
        kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
        batch=st.sampled_from([1, 7]),
        optimise=st.booleans(),
        seed=st.integers(0, 1000),
    )
    def test_convolution_with_scale_1_is_the_integer_accumulator(
        self,
        toolbox: Any,
        levels: Levels,
        geometry: dict[str, Any],
        per_group: int,
        kernel: tuple[int, int],
        batch: int,
        optimise: bool,
        seed: int,
    ) -> None:
        group = geometry["group"]
        size = [geometry["dilations"][i] * (kernel[i] - 1) + 1 + seed % 3 for i in (0, 1)]
        x = choose_levels(levels, (batch, group * per_group, *size), seed)
        signs = choose_levels(Levels.BIPOLAR, (2 * group, per_group, *kernel), seed + 1)
        model, fed = packed_layer(x, signs, levels, geometry, *bare(2 * group))
        (y,) = toolbox.run_in_onnxruntime(model, {"x": fed}, optimise=optimise)
        expected = toolbox.convolve(x, signs, geometry)
        assert y.shape == expected.shape
        assert (y == expected).all()

    @pytest.mark.parametrize("levels", Levels)
    @settings(max_examples=15)
    @given(
        channels=st.integers(1, 100), batch=st.sampled_from([1, 7]), optimise=st.booleans(), seed=st.integers(0, 1000)
    )
    def test_fully_connected_with_scale_1_is_the_integer_accumulator(
        self, toolbox: Any, levels: Levels, channels: int, batch: int, optimise: bool, seed: int
    ) -> None:
        x = choose_levels(levels, (batch, channels), seed)
        signs = choose_levels(Levels.BIPOLAR, (5, channels), seed + 1)
        model, fed = packed_layer(x, signs, levels, {}, *bare(5))
        (y,) = toolbox.run_in_onnxruntime(model, {"x": fed}, optimise=optimise)
        assert (y == x.astype(np.int64) @ signs.astype(np.int64).T).all()

    @pytest.mark.parametrize("levels", Levels)
    @pytest.mark.parametrize("channels", [33, 64])
    def test_1x1_image(self, toolbox: Any, levels: Levels, channels: int) -> None:
        geometry = {**GEOMETRY, "pads": [1, 1, 1, 1]}
        x = choose_levels(levels, (1, channels, 1, 1), 0)
        signs = choose_levels(Levels.BIPOLAR, (3, channels, 3, 3), 1)
        model, fed = packed_layer(x, signs, levels, geometry, *bare(3))
        (y,) = toolbox.run_in_onnxruntime(model, {"x": fed})
        assert (y[:, :, 0, 0] == x[:, :, 0, 0].astype(int) @ signs[:, :, 1, 1].astype(int).T).all()

    @pytest.mark.parametrize("optimise", [True, False], ids=["optimised", "as written"])
    @pytest.mark.parametrize("levels", Levels)
    @pytest.mark.parametrize("image", [(6, 5), ()], ids=["conv", "linear"])
    def test_epilogue_rounds_to_float32_after_the_product_and_after_the_sum(
        self, toolbox: Any, levels: Levels, image: tuple[int, ...], optimise: bool
    ) -> None:
        outputs, channels = 16, 70
        generator = np.random.default_rng(0)
        scale = generator.standard_normal(outputs).astype(np.float32) / np.float32(3)
        bias = generator.standard_normal(outputs).astype(np.float32)
        scale[0], bias[1], bias[2] = 0, -0.0, 1e-42
        x = choose_levels(levels, (7, channels, *image), 1)
        signs = choose_levels(Levels.BIPOLAR, (outputs, channels, *[3 for _ in image]), 2)
        model, fed = packed_layer(x, signs, levels, {**GEOMETRY, "pads": [1, 1, 1, 1]}, scale, bias)
        (y,) = toolbox.run_in_onnxruntime(model, {"x": fed}, optimise=optimise)
        accumulator = (
            toolbox.convolve(x, signs, {**GEOMETRY, "pads": [1, 1, 1, 1]}) if image else x.astype(float) @ signs.T
        )
        assert y.dtype == np.float32
        assert (y == float32_epilogue(accumulator, scale, bias)).all()

    @pytest.mark.parametrize("optimise", [True, False], ids=["optimised", "as written"])
    @pytest.mark.parametrize("image", [(6, 5), ()], ids=["conv", "linear"])
    def test_real_activations(self, toolbox: Any, image: tuple[int, ...], optimise: bool) -> None:
        geometry = {**GEOMETRY, "pads": [1, 0, 1, 2], "strides": [2, 1], "pad_value": -1.0}
        x = toolbox.adversarial((2, 33, *image), finite=True)
        signs = choose_levels(Levels.BIPOLAR, (4, 33, *[3 for _ in image]), 2)
        scale, bias = np.array([[1, -2, 0.5, 0], [0, 1, 2, 3]], np.float32)
        model, fed = packed_layer(x, signs, None, geometry, scale, bias)
        (y,) = toolbox.run_in_onnxruntime(model, {"x": fed}, optimise=optimise)

        def sums(values: Array, weight: Array) -> Array:
            return toolbox.convolve(values, weight, geometry) if image else values.astype(float) @ weight.T

        shape = (-1, *[1] * len(image))
        expected = scale.reshape(shape) * sums(x, signs) + bias.reshape(shape)
        limit = FLOAT_SUM_TOLERANCE * (sums(np.abs(x), np.abs(signs)).max() * 2 + 3)
        np.testing.assert_allclose(y, expected, rtol=0, atol=limit)

    @pytest.mark.parametrize("edge", [np.nan, np.inf, -np.inf])
    def test_a_real_activation_that_is_not_finite_reaches_the_outputs_that_see_it(
        self, toolbox: Any, edge: float
    ) -> None:
        x = np.zeros((1, 2, 5, 5), np.float32)
        x[0, 0, 0, 0] = edge
        signs = choose_levels(Levels.BIPOLAR, (3, 2, 3, 3), 2)
        model, fed = packed_layer(x, signs, None, {**GEOMETRY, "pads": [1, 1, 1, 1]}, *bare(3))
        (y,) = toolbox.run_in_onnxruntime(model, {"x": fed})
        with np.errstate(invalid="ignore"):
            expected = toolbox.convolve(x, signs, {**GEOMETRY, "pads": [1, 1, 1, 1]})
        np.testing.assert_array_equal(y, expected)
        assert not np.isfinite(y[0, :, :2, :2]).any()
        assert np.isfinite(y[0, :, 2:, :]).all()


def levels_for(op_type: str) -> Levels | None:
    if op_type in (opset.BINARY_WEIGHT_CONV2D, opset.BINARY_WEIGHT_LINEAR):
        return None
    return Levels.TERNARY if "Ternary" in op_type else Levels.UNIPOLAR


def example(toolbox: Any, op_type: str) -> tuple[onnx.ModelProto, Array]:
    """A small model of one op and an input for it."""
    if op_type in opset.PACK_OPS.values():
        x = toolbox.adversarial((2, 35, 3, 4))
        constants = {} if op_type == opset.PACK_TERNARY else {"threshold": np.zeros(1, np.float32)}
        return one_op(op_type, x, constants, {"channels": 35}), x
    image = (5, 4) if op_type in opset.CONV_OPS else ()
    levels = levels_for(op_type)
    x = choose_levels(levels or Levels.TERNARY, (2, 35, *image), 3).astype(np.int8 if levels else np.float32)
    signs = choose_levels(Levels.BIPOLAR, (4, 35, *[3 for _ in image]), 4)
    geometry = {**GEOMETRY, "pads": [1, 1, 1, 1], "pad_value": 1.0}
    return packed_layer(x, signs, levels, geometry, *np.array([[3, 1, -2, 0.5], [0, 1, 2, 3]], np.float32))


@pytest.mark.parametrize("op_type", OPS)
class TestEveryBody:
    def test_holds_standard_ops_only(self, op_type: str) -> None:
        for node in function_body(op_type).node:
            assert node.domain == ""
            assert onnx.defs.get_schema(node.op_type, opset.ONNX_OPSET).since_version <= opset.ONNX_OPSET

    def test_passes_the_full_check(self, toolbox: Any, op_type: str) -> None:
        onnx.checker.check_model(example(toolbox, op_type)[0], full_check=True)

    def test_gives_the_same_in_the_evaluator_of_onnx(self, toolbox: Any, op_type: str) -> None:
        model, x = example(toolbox, op_type)
        (found,) = ReferenceEvaluator(model).run(None, {"x": x})
        (expected,) = toolbox.run_in_onnxruntime(model, {"x": x})
        (defined,) = toolbox.evaluate(model, x=x)
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(found, defined)  # small integers and halves: exact however they are summed

    @pytest.mark.parametrize("version", [21, 22, 23])
    def test_runs_under_a_later_opset_of_the_model(self, toolbox: Any, op_type: str, version: int) -> None:
        model, x = example(toolbox, op_type)
        (expected,) = toolbox.run_in_onnxruntime(model, {"x": x})
        model.opset_import[0].version = version
        (found,) = toolbox.run_in_onnxruntime(model, {"x": x})
        np.testing.assert_array_equal(found, expected)

    def test_declares_the_attributes_and_inputs_that_it_uses(self, op_type: str) -> None:
        body = function_body(op_type)
        used = {entry.ref_attr_name for node in body.node for entry in node.attribute if entry.ref_attr_name}
        read = {name for node in body.node for name in node.input}
        assert used == set(body.attribute)
        assert set(body.input) <= read


def test_an_op_without_a_body_is_an_error() -> None:
    with pytest.raises(KeyError):
        function_body("Conv")


class TestOperandOrder:
    """ONNX Runtime folds a product behind a convolution into the weights, if the convolution is its left operand."""

    @staticmethod
    def thirds(reverse: bool) -> tuple[onnx.ModelProto, Array, Array]:
        """(model, input, expected): scales without a finite binary fraction, accumulators up to 2304."""
        x = choose_levels(Levels.BIPOLAR, (2, 256, 6, 6), 5)
        signs = choose_levels(Levels.BIPOLAR, (8, 256, 3, 3), 6)
        scale = (1 / np.arange(3, 11)).astype(np.float32)
        bias = np.linspace(-1, 1, 8, dtype=np.float32)
        model, fed = packed_layer(x, signs, Levels.BIPOLAR, GEOMETRY, scale, bias)
        if reverse:
            (product,) = [node for node in model.functions[0].node if node.output[0] == "scaled"]
            product.input[:] = reversed(product.input)
        padded = np.einsum(
            "nchwij,ocij->nohw", np.lib.stride_tricks.sliding_window_view(x, (3, 3), (2, 3)), signs, dtype=np.int64
        )
        return model, fed, float32_epilogue(padded, scale, bias)

    @pytest.mark.parametrize("op_type", opset.LAYER_OPS)
    def test_the_scale_is_the_left_operand(self, op_type: str) -> None:
        (product,) = [node for node in function_body(op_type).node if node.output[0] == "scaled"]
        assert product.op_type == "Mul"
        assert list(product.input) in (["channel_scale", "accumulator"], ["scale", "accumulator"])

    @pytest.mark.parametrize("optimise", [True, False], ids=["optimised", "as written"])
    def test_the_product_is_not_folded(self, toolbox: Any, optimise: bool) -> None:
        model, fed, expected = self.thirds(reverse=False)
        (y,) = toolbox.run_in_onnxruntime(model, {"x": fed}, optimise=optimise)
        assert (y == expected).all()

    def test_with_the_operands_the_other_way_round_it_is(self, toolbox: Any) -> None:
        model, fed, expected = self.thirds(reverse=True)
        (as_written,) = toolbox.run_in_onnxruntime(model, {"x": fed}, optimise=False)
        (folded,) = toolbox.run_in_onnxruntime(model, {"x": fed})
        assert (as_written == expected).all()
        assert (folded != expected).any()
