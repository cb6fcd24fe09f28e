"""Float16 for whatever is not 1-bit: the same integers and bits, few casts, and a reason for what stays float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from bnn_deploy import opset
from bnn_deploy.passes.base import PassResult
from bnn_deploy.passes.lower_precision import LowerPrecisionPass
from bnn_deploy.passes.pipeline import deploy_passes

FLOAT, FLOAT16 = ir.DataType.FLOAT, ir.DataType.FLOAT16
X = (2, 5, 6, 7)


def dyadic(*shape: int, seed: int = 0, span: int = 3) -> NDArray[np.float32]:
    """Small multiples of 1/4: their sums are exact in float16."""
    return (np.random.default_rng(seed).integers(-span, span + 1, shape) / 4).astype(np.float32)


def fused(model: ir.Model) -> ir.Model:
    """The model as it is when its precision is lowered, in place."""
    steps = deploy_passes(opset.FP16)
    for step in steps[: [type(step).__name__ for step in steps].index("LowerBinarizePass") + 1]:
        step(model)
    return model


def lowered(rewriting: Any, model: ir.Model) -> PassResult:
    """Applies the pass to a model and checks what always holds: no cast behind a cast, operands left in float32."""
    result: PassResult = rewriting.apply(model, LowerPrecisionPass())
    assert model.metadata_props[opset.PRECISION] == opset.FP16
    for node in model.graph:
        producer = node.inputs[0].producer() if node.inputs and node.inputs[0] is not None else None
        assert not (node.op_type == "Cast" and producer is not None and producer.op_type == "Cast")
        if node.domain == opset.DOMAIN:
            constants = [value for value in node.inputs if value is not None and value.is_initializer()]
            assert all(value.dtype != FLOAT16 for value in constants)
    return result


def casts(model: ir.Model) -> list[tuple[ir.DataType, ir.DataType]]:
    return [(node.inputs[0].dtype, node.outputs[0].dtype) for node in model.graph if node.op_type == "Cast"]


def block(draft: Any, toolbox: Any, x: ir.Value, channels: int = 5) -> ir.Value:
    """A binary convolution with its shortcut, behind a binarisation. x: [N, C, H, W]."""
    weight = np.sign(toolbox.weights(channels, channels, 3, 3)) / 2
    y = draft.conv(draft.binarize(x), weight, pads=[1, 1, 1, 1], shape=x.shape)
    return draft.op("Add", y, x, node="shortcut", shape=x.shape)


def network(toolbox: Any) -> ir.Model:
    """Convolution, ReLU, a binary block, pooling, a fully connected layer."""
    draft = toolbox.Draft(x=("batch", *X[1:]))
    shape = ("batch", *X[1:])
    stem = draft.op(
        "Conv",
        draft["x"],
        draft.constant("w", dyadic(5, 5, 1, 1)),
        draft.constant("b", dyadic(5)),
        node="stem",
        shape=shape,
    )
    summed = block(draft, toolbox, draft.op("Relu", stem, node="relu", shape=shape))
    pooled = draft.op("MaxPool", summed, node="pool", kernel_shape=[6, 7], shape=("batch", 5, 1, 1))
    flat = draft.op("Flatten", pooled, node="flat", shape=("batch", 5))
    head = draft.op("Gemm", flat, draft.constant("head", dyadic(5, 3)), node="fc", shape=("batch", 3))
    return draft.model(head)


class TestNetwork:
    def test_is_float16_between_two_casts(self, toolbox: Any, rewriting: Any) -> None:
        model = fused(network(toolbox))
        assert lowered(rewriting, model).declined == ()
        assert casts(model) == [(FLOAT, FLOAT16), (FLOAT16, FLOAT)]
        assert "PackedConv2dAddFp16" in toolbox.op_types(model)
        for value in (value for node in model.graph for value in node.outputs if value.dtype == FLOAT):
            assert value.is_graph_output()

    def test_computes_the_same_where_float16_is_exact(self, toolbox: Any, rewriting: Any) -> None:
        model, x = fused(network(toolbox)), dyadic(*X, seed=4)
        (before,) = rewriting.outputs(model, x=x)
        lowered(rewriting, model)
        (after,) = rewriting.outputs(model, x=x)
        assert after.dtype == np.float32
        np.testing.assert_array_equal(after, before)

    def test_pipeline_twice_changes_nothing(self, toolbox: Any) -> None:
        model = network(toolbox)
        for step in deploy_passes(opset.FP16):
            step(model)
        content = ir.to_proto(model).SerializeToString(deterministic=True)
        for step in deploy_passes(opset.FP16):
            step(model)
        assert ir.to_proto(model).SerializeToString(deterministic=True) == content

    def test_stays_as_it_is_at_fp32(self, toolbox: Any) -> None:
        model = network(toolbox)
        for step in deploy_passes():
            step(model)
        assert opset.PRECISION not in model.metadata_props
        assert all(value.dtype != FLOAT16 for node in model.graph for value in node.outputs)


class TestEdges:
    def test_a_layer_that_is_the_output_needs_no_cast(self, toolbox: Any, rewriting: Any) -> None:
        draft = toolbox.Draft(x=X)
        model = fused(draft.model(draft.conv(draft.binarize(draft["x"]), toolbox.weights(4, 5, 1, 1), shape=X)))
        lowered(rewriting, model)
        assert casts(model) == []
        assert toolbox.op_types(model) == ["PackBipolar", "PackedConv2d"]

    def test_a_shortcut_of_such_a_layer_is_widened(self, toolbox: Any, rewriting: Any) -> None:
        draft = toolbox.Draft(x=X)
        model = fused(draft.model(block(draft, toolbox, draft.op("Relu", draft["x"], shape=X))))
        lowered(rewriting, model)
        assert "PackedConv2dAdd" in toolbox.op_types(model)
        assert casts(model) == [(FLOAT, FLOAT16), (FLOAT16, FLOAT)]

    def test_ops_of_float32_alone_stay_between_casts(self, toolbox: Any, rewriting: Any) -> None:
        draft = toolbox.Draft(x=X)
        halved = draft.op("Relu", draft["x"], shape=X)
        window = {"kernel_shape": [2, 2], "strides": [1, 1], "shape": (2, 5, 5, 6)}
        pooled = draft.op(opset.AVERAGE_POOL2D, halved, domain=opset.DOMAIN, **window)
        model = draft.model(draft.op("Relu", pooled, shape=(2, 5, 5, 6)))
        lowered(rewriting, model)
        assert casts(model) == [(FLOAT, FLOAT16), (FLOAT16, FLOAT)] * 2
        assert [value.dtype for node in model.graph if node.domain for value in node.outputs] == [FLOAT]

    def test_an_output_that_is_read_too(self, toolbox: Any, rewriting: Any) -> None:
        draft = toolbox.Draft(x=X)
        inner = draft.op("Relu", draft["x"], node="inner", shape=X)
        outer = draft.op("Add", inner, inner, node="outer", shape=X)
        model = draft.model(inner, outer)
        lowered(rewriting, model)
        assert casts(model) == [(FLOAT, FLOAT16), (FLOAT16, FLOAT), (FLOAT16, FLOAT)]
        assert toolbox.node(model, "outer").inputs[0].dtype == FLOAT16

    def test_the_input_is_packed_as_it_is(self, toolbox: Any, rewriting: Any) -> None:
        """A rounded -1e-9 would be -0.0, and so +1. The reshape between is no reason to round either."""
        draft = toolbox.Draft(x=(2, 12))
        shape = draft.constant("shape", np.array([2, 3, 2, 2]))
        image = draft.op("Reshape", draft["x"], shape, shape=(2, 3, 2, 2))
        y = draft.conv(draft.binarize(image), toolbox.weights(4, 3, 1, 1), shape=(2, 4, 2, 2))
        model = fused(draft.model(draft.op("Relu", y, shape=(2, 4, 2, 2))))
        x = toolbox.adversarial((2, 12), finite=True) * np.float32(1e-9)
        (before,) = rewriting.outputs(model, x=x)
        lowered(rewriting, model)
        assert casts(model) == [] or casts(model) == [(FLOAT16, FLOAT)]
        np.testing.assert_allclose(rewriting.outputs(model, x=x)[0], before, rtol=2.0**-11)

    def test_a_comparison_sees_what_there_is(self, toolbox: Any, rewriting: Any) -> None:
        """A binarisation that float reads: of the input itself, exactly; the levels are float16 at once."""
        draft = toolbox.Draft(x=X)
        levels = draft.binarize(draft["x"], levels="ternary")
        model = fused(draft.model(draft.op("Relu", levels, shape=X)))
        x = np.array([1e-9, -1e-9, 0.0, -0.0, np.nan, np.inf], np.float32)
        x = np.resize(x, X)
        (before,) = rewriting.outputs(model, x=x)
        lowered(rewriting, model)
        assert casts(model) == [(FLOAT16, FLOAT)]
        np.testing.assert_array_equal(rewriting.outputs(model, x=x)[0], before)

    @pytest.mark.parametrize(("threshold", "expected"), [(0.25, FLOAT16), (0.1, FLOAT)])
    def test_a_threshold_is_not_rounded(
        self, toolbox: Any, rewriting: Any, threshold: float, expected: ir.DataType
    ) -> None:
        draft = toolbox.Draft(x=X)
        bound = draft.constant("bound", np.float32(threshold))
        greater = draft.op("Greater", draft.op("Relu", draft["x"], shape=X), bound, node="greater", shape=X)
        greater.type = ir.TensorType(ir.DataType.BOOL)
        number = draft.op("Cast", greater, to=1, node="number", shape=X)
        model = draft.model(draft.op("Relu", number, shape=X))
        lowered(rewriting, model)
        assert toolbox.node(model, "greater").inputs[0].dtype == expected
        assert toolbox.node(model, "number").outputs[0].dtype == FLOAT16


def one_op(toolbox: Any, op_type: str, *constants: Any, **attributes: Any) -> ir.Model:
    """Relu, the operator with these constants, Relu."""
    draft = toolbox.Draft(x=X)
    made = [draft.constant(f"c{i}", array) for i, array in enumerate(constants)]
    x = draft.op("Relu", draft["x"], node="first", shape=X)
    y = draft.op(op_type, x, *made, node="op", shape=X, **attributes)
    model: ir.Model = draft.model(draft.op("Relu", y, node="last", shape=X))
    return model


IDENTITY = np.eye(5, dtype=np.float32).reshape(5, 5, 1, 1)


class TestDeclines:
    @pytest.mark.parametrize(
        ("op_type", "constants", "reason"),
        [
            ("Mul", [np.float32(1e6)], "Mul stays float32: it holds 1e+06, and float16 ends at 65504"),
            ("Mul", [np.float32(1e-9)], "Mul stays float32: it holds 1e-09, of which float16 makes 0"),
            ("PRelu", [np.full((5, 1, 1), 1e-8, np.float32)], "of which float16 makes 0"),
            ("Conv", [IDENTITY * np.float32(1e-7)], "Conv stays float32: it holds 1e-07"),
            ("Conv", [IDENTITY, np.full(5, -1e5, np.float32)], "Conv stays float32: it holds -1e+05"),
            ("Exp", [], "Exp stays float32: its results may leave the range of float16"),
        ],
        ids=["too large", "becomes 0", "slope becomes 0", "small weights", "large bias", "range"],
    )
    def test_between_two_casts(
        self, toolbox: Any, rewriting: Any, op_type: str, constants: list[Any], reason: str
    ) -> None:
        model = one_op(toolbox, op_type, *constants)
        (declined,) = lowered(rewriting, model).declined
        assert declined.layer == "op" and reason in declined.reason
        assert {value.dtype for value in toolbox.node(model, "op").inputs} == {FLOAT}
        inner = [(FLOAT16, FLOAT), (FLOAT, FLOAT16)]
        assert casts(model) == [(FLOAT, FLOAT16), *inner, (FLOAT16, FLOAT)]

    @pytest.mark.parametrize(
        ("op_type", "constants"),
        [
            ("Conv", [np.where(IDENTITY == 0, np.float32(1e-9), IDENTITY)]),
            ("Conv", [IDENTITY, np.full(5, 1e-9, np.float32)]),
            ("Clip", [np.float32(0), np.float32(3e38)]),
            ("Add", [np.float32(-np.inf)]),
        ],
        ids=["tiny weights beside large ones", "tiny bias", "no upper bound", "infinity"],
    )
    def test_not_where_it_does_not_matter(
        self, toolbox: Any, rewriting: Any, op_type: str, constants: list[Any]
    ) -> None:
        model = one_op(toolbox, op_type, *constants)
        assert lowered(rewriting, model).declined == ()
        assert {value.dtype for value in toolbox.node(model, "op").inputs} == {FLOAT16}

    @pytest.mark.parametrize(
        ("scale", "reason"), [(1e4, "its output can reach 4.5e+05"), (1e-7, "its output stays below 4.5e-06")]
    )
    def test_a_layer_that_leaves_the_range(self, toolbox: Any, rewriting: Any, scale: float, reason: str) -> None:
        draft = toolbox.Draft(x=X)
        weight = np.full((5, 5, 3, 3), scale, np.float32)
        y = draft.conv(draft.binarize(draft["x"]), weight, pads=[1, 1, 1, 1], weight_clamp=0, shape=X)
        model = fused(draft.model(draft.op("Sigmoid", y, shape=X)))
        (declined,) = lowered(rewriting, model).declined
        assert declined.layer == "conv" and reason in declined.reason
        assert "PackedConv2d" in toolbox.op_types(model)

    def test_batch_norm_of_no_constants(self, toolbox: Any, rewriting: Any) -> None:
        draft = toolbox.Draft(x=X, gamma=(5,))
        relu = draft.op("Relu", draft["x"], shape=X)
        norm = draft.batch_norm(relu, (draft["gamma"], *toolbox.norm(5)[1:]), shape=X)
        model = draft.model(draft.op("Relu", norm, shape=X))
        (declined,) = lowered(rewriting, model).declined
        assert declined.reason == "BatchNormalization stays float32: its parameters are not constant and finite"


class TestConstants:
    def test_batch_norm_is_rounded_once(self, toolbox: Any, rewriting: Any) -> None:
        parameters = toolbox.norm(5)
        draft = toolbox.Draft(x=X)
        relu = draft.op("Relu", draft["x"], shape=X)
        norm = draft.batch_norm(relu, parameters, shape=X, epsilon=1e-3)
        model = draft.model(draft.op("Relu", norm, shape=X))
        x = np.abs(toolbox.adversarial(X, finite=True))
        (before,) = rewriting.outputs(model, x=x)
        lowered(rewriting, model)
        gamma, beta, mean, variance = (array.astype(np.float64) for array in parameters)
        factor = gamma / np.sqrt(variance + np.float64(np.float32(1e-3)))
        held = [toolbox.array(value) for value in toolbox.node(model, "bn").inputs[1:]]
        np.testing.assert_array_equal(held[0], factor.astype(np.float16))
        np.testing.assert_array_equal(held[1], (beta - factor * mean).astype(np.float16))
        assert toolbox.close(rewriting.outputs(model, x=x)[0], before, tolerance=2.0**-9)

    def test_one_for_two_readers_of_which_one_declines(self, toolbox: Any, rewriting: Any) -> None:
        draft = toolbox.Draft(x=X)
        shared = draft.constant("shared", np.float32(2))
        power = draft.op("Pow", draft["x"], shared, node="power", shape=X)
        model = draft.model(draft.op("Mul", power, shared, node="product", shape=X))
        lowered(rewriting, model)
        assert toolbox.node(model, "power").inputs[1].dtype == FLOAT
        assert toolbox.node(model, "product").inputs[1].dtype == FLOAT16

    def test_computed_in_the_graph(self, toolbox: Any, rewriting: Any) -> None:
        """Rounded once, behind the arithmetic."""
        draft = toolbox.Draft(x=X)
        third = draft.op("Div", draft.constant("one", np.float32(1)), draft.constant("three", np.float32(3)), shape=())
        model = draft.model(draft.op("Mul", draft["x"], third, node="op", shape=X))
        lowered(rewriting, model)
        assert toolbox.array(toolbox.node(model, "op").inputs[1]) == np.float16(1 / 3)
        assert toolbox.op_types(model) == ["Cast", "Mul", "Cast"]


def test_a_subgraph_keeps_what_it_reads(toolbox: Any, rewriting: Any) -> None:
    draft = toolbox.Draft(x=X)
    x = draft.op("Relu", draft["x"], node="outer", shape=X)
    condition = draft.constant("condition", np.array(True))

    def branch(op_type: str) -> ir.Graph:
        inner = ir.node(op_type, [x], name=op_type)
        inner.outputs[0].name = f"{op_type}_out"
        inner.outputs[0].type, inner.outputs[0].shape = ir.TensorType(FLOAT), ir.Shape(X)
        return ir.Graph([], inner.outputs, nodes=[inner], opset_imports={"": 20}, name=op_type)

    y = draft.op("If", condition, then_branch=branch("Neg"), else_branch=branch("Abs"), node="choice", shape=X)
    model = draft.model(draft.op("Relu", y, shape=X))
    values = dyadic(*X)
    (before,) = rewriting.outputs(model, x=values)
    LowerPrecisionPass()(model)
    np.testing.assert_array_equal(rewriting.outputs(model, x=values)[0], before)
    assert toolbox.node(model, "choice").outputs[0].dtype == FLOAT
