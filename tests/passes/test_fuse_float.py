"""Stems and average pools become ops of ours where these are the same, and pay; stock ONNX Runtime sees no change."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bnn_deploy import opset
from bnn_deploy.passes.attach_functions import AttachFunctionsPass
from bnn_deploy.passes.base import PassResult
from bnn_deploy.passes.fuse_float import FuseFloatPass
from bnn_deploy.passes.pipeline import deploy_passes

IMAGE = (3, 17, 18)
LARGER = (3, 37, 38)
SLOPES = np.float32([[[0.0]], [[0.25]], [[1.0]], [[2.0]]])
STEM = {"strides": [2, 2], "pads": [3, 3, 3, 3]}
POOL = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
HALVES = {"kernel_shape": [2, 2], "strides": [2, 2]}


def stem_of(
    toolbox: Any,
    *,
    channels: int = 3,
    weight: Any = None,
    bias: Any = (1.0, -2.0, 0.5, 0.0),
    conv: dict[str, Any] | None = None,
    pool: dict[str, Any] | None = None,
) -> tuple[Any, ir.Value, ir.Value]:
    """(draft, what the convolution writes, what the pool writes) of x: [N, channels, 17, 18]."""
    draft = toolbox.Draft(x=["batch", channels, *IMAGE[1:]])
    weight = toolbox.weights(4, channels, 7, 7) if weight is None else weight
    operands = [weight if isinstance(weight, ir.Value) else draft.constant("stem.weight", weight)]
    operands += [] if bias is None else [bias if isinstance(bias, ir.Value) else draft.constant("stem.bias", bias)]
    attributes = {**STEM, **(conv or {})}
    y = draft.op("Conv", draft["x"], *operands, node="stem", metadata={"of": "conv"}, **attributes)
    z = draft.op("MaxPool", y, node="pool", metadata={"of": "pool", "also": "kept"}, **{**POOL, **(pool or {})})
    return draft, y, z


def finished(draft: Any, *outputs: ir.Value) -> ir.Model:
    for value in outputs:
        if value.shape is None:
            value.shape = ir.Shape([None] * 4)
    return draft.model(*outputs)


def stem_model(toolbox: Any, **changes: Any) -> ir.Model:
    draft, _, pooled = stem_of(toolbox, **changes)
    return finished(draft, pooled)


def activated(
    toolbox: Any, op_type: str, *operands: Any, also: str = "", **given: Any
) -> tuple[ir.Model, dict[str, ir.Value]]:
    """MaxPool(op_type(Conv(x), *operands)) of x: [N, 3, 37, 38], which returns `also` too; and the values by node.

    An operand is an array, None, or "x" for a number that is computed of x.
    """
    draft, convolved, pooled = stem_of(toolbox)
    pool = draft.nodes.pop()
    draft["x"].shape = ir.Shape(["batch", *LARGER])
    convolved.shape, pooled.shape = ir.Shape(["batch", 4, 19, 19]), ir.Shape(["batch", 4, 10, 10])
    values: list[ir.Value | None] = []
    for index, operand in enumerate(operands):
        if operand is None:
            values.append(None)
        elif isinstance(operand, str):
            values.append(draft.op("ReduceMin", draft[operand], keepdims=0, shape=[]))
        else:
            values.append(draft.constant(f"operand{index}", np.asarray(operand, np.float32)))
    metadata, shape = {"of": "between"}, convolved.shape
    y = draft.op(op_type, convolved, *values, node="between", metadata=metadata, shape=shape, **given)
    pool.replace_input_with(0, y)
    draft.nodes.append(pool)
    by_node = {"stem": convolved, "between": y, "pool": pooled}
    return finished(draft, pooled, *([by_node[also]] if also else [])), by_node


def applied(toolbox: Any, rewriting: Any, model: ir.Model, x: NDArray[np.float32]) -> PassResult:
    """Applies the pass, and compares what stock ONNX Runtime computes before and after, optimised and as written."""

    def outputs() -> list[NDArray[Any]]:
        runnable = toolbox.copy(model)
        AttachFunctionsPass()(runnable)
        modes = (True, False)
        return [y for mode in modes for y in toolbox.run_in_onnxruntime(runnable, {"x": x}, optimise=mode)]

    before = outputs()
    result: PassResult = rewriting.apply(model, FuseFloatPass())
    for found, expected in zip(outputs(), before, strict=True):
        np.testing.assert_array_equal(found, expected)
    return result


def attributes(node: ir.Node) -> dict[str, list[int]]:
    return {name: list(entry.value) for name, entry in node.attributes.items()}


class TestStem:
    def test_becomes_one_op(self, toolbox: Any, rewriting: Any) -> None:
        model = stem_model(toolbox)
        result = applied(toolbox, rewriting, model, toolbox.adversarial((2, *IMAGE)))
        assert (result.changes, result.declined) == (1, ())
        (node,) = model.graph
        assert (node.domain, node.op_type, node.name) == (opset.DOMAIN, opset.STEM_CONV2D_MAX_POOL, "stem")
        assert attributes(node) == {"pads": [3, 3, 3, 3]}
        assert [value.name for value in node.inputs if value is not None] == ["x", "stem.weight", "stem.bias"]
        assert node.metadata_props == {"of": "conv", "also": "kept"}
        assert node.outputs[0].name == "pool_out" and node.outputs[0].dtype == ir.DataType.FLOAT

    def test_without_a_bias_has_one_of_0(self, toolbox: Any, rewriting: Any) -> None:
        model = stem_model(toolbox, bias=None)
        assert applied(toolbox, rewriting, model, toolbox.adversarial((1, *IMAGE), finite=True)).changes == 1
        bias = toolbox.node(model, "stem").inputs[2]
        assert bias is not None and bias.name == "stem.bias"
        np.testing.assert_array_equal(toolbox.array(bias), np.zeros(4, np.float32))

    @settings(max_examples=15)
    @given(
        kernel=st.tuples(st.sampled_from([7, 8]), st.sampled_from([7, 8])),
        pads=st.tuples(*[st.integers(0, 4)] * 4),
        channels=st.sampled_from([1, 3, 16]),
        image=st.tuples(st.integers(8, 21), st.integers(8, 21)),
        batch=st.sampled_from([1, 3]),
        usual=st.booleans(),
    )
    def test_of_any_geometry(
        self,
        toolbox: Any,
        rewriting: Any,
        kernel: tuple[int, int],
        pads: tuple[int, int, int, int],
        channels: int,
        image: tuple[int, int],
        batch: int,
        usual: bool,
    ) -> None:
        """Attributes that say what goes without saying, as exporters write them, change nothing."""
        said = {"auto_pad": "NOTSET", "dilations": [1, 1]}
        conv = {"pads": list(pads), **({**said, "group": 1, "kernel_shape": list(kernel)} if usual else {})}
        pool = {**said, "ceil_mode": 0, "storage_order": 0} if usual else {}
        weight = toolbox.weights(5, channels, *kernel)
        draft, _, pooled = stem_of(toolbox, channels=channels, weight=weight, bias=None, conv=conv, pool=pool)
        draft["x"].shape = ir.Shape(["batch", channels, *image])
        model = finished(draft, pooled)
        result = applied(toolbox, rewriting, model, toolbox.adversarial((batch, channels, *image), finite=True))
        assert (result.changes, attributes(toolbox.node(model, "stem"))) == (1, {"pads": list(pads)})

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"channels": 17}, "it reads 17 channels, more than 16"),
            ({"conv": {"dilations": [1, 2]}}, "groups, dilations or auto_pad"),
            ({"channels": 4, "weight": (4, 2, 7, 7), "conv": {"group": 2}}, "groups, dilations or auto_pad"),
            ({"conv": {"auto_pad": "SAME_UPPER", "pads": [0] * 4}}, "groups, dilations or auto_pad"),
            ({"bias": (1.0, np.nan, 0.0, 0.0)}, "not finite float32 constants"),
            ({"pool": {"kernel_shape": [2, 2], "pads": [0, 0, 0, 0]}}, "the max-pool is not one of 3x3"),
            ({"pool": {"strides": [1, 1]}}, "the max-pool is not one of 3x3"),
            ({"pool": {"pads": [0, 0, 1, 1]}}, "the max-pool is not one of 3x3"),
            ({"pool": {"ceil_mode": 1}}, "the max-pool is not one of 3x3"),
            ({"pool": {"dilations": [2, 2]}}, "the max-pool is not one of 3x3"),
            ({"pool": {"auto_pad": "SAME_UPPER", "pads": [0] * 4}}, "the max-pool is not one of 3x3"),
        ],
    )
    def test_that_is_nearly_one_is_declined(
        self, toolbox: Any, rewriting: Any, changes: dict[str, Any], reason: str
    ) -> None:
        if isinstance(shape := changes.get("weight"), tuple):
            changes = {**changes, "weight": toolbox.weights(*shape)}
        model = stem_model(toolbox, **changes)
        if changes.get("conv", {}).get("auto_pad") or changes.get("pool", {}).get("auto_pad"):
            for node in model.graph:  # ONNX has one or the other
                if "auto_pad" in node.attributes:
                    node.attributes.pop("pads")
        self.stays(toolbox, rewriting, model, reason)

    @staticmethod
    def stays(toolbox: Any, rewriting: Any, model: ir.Model, reason: str) -> None:
        before = toolbox.op_types(model)
        result = rewriting.apply(model, FuseFloatPass())
        (declined,) = result.declined
        assert (declined.layer, result.changes) == ("stem", 0)
        assert declined.reason.startswith("stays Conv and MaxPool: ") and reason in declined.reason
        assert toolbox.op_types(model) == before

    def test_whose_convolution_is_read_elsewhere_is_declined(self, toolbox: Any, rewriting: Any) -> None:
        reason = "more is read of it than the largest values"
        draft, convolved, pooled = stem_of(toolbox)
        self.stays(toolbox, rewriting, finished(draft, pooled, convolved), reason)
        draft, convolved, pooled = stem_of(toolbox)
        self.stays(toolbox, rewriting, finished(draft, pooled, draft.op("Relu", convolved)), reason)
        draft, _, pooled = stem_of(toolbox, pool={"num_outputs": 2})
        node = pooled.producer()
        assert node is not None
        places = node.outputs[1]
        places.name, places.type = "places", ir.TensorType(ir.DataType.INT64)
        self.stays(toolbox, rewriting, finished(draft, pooled, places), reason)

    def test_whose_weight_is_an_input_or_computed_is_declined(self, toolbox: Any, rewriting: Any) -> None:
        reason = "not finite float32 constants"
        kernel = ir.Value(name="w", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([4, 3, 7, 7]))
        draft, _, pooled = stem_of(toolbox, weight=kernel)
        draft.inputs["w"] = kernel
        self.stays(toolbox, rewriting, finished(draft, pooled), reason)
        draft = toolbox.Draft(x=["batch", *IMAGE])
        doubled = draft.op("Add", *[draft.constant("half", toolbox.weights(4, 3, 7, 7))] * 2, shape=[4, 3, 7, 7])
        convolved = draft.op("Conv", draft["x"], doubled, node="stem", **STEM)
        self.stays(toolbox, rewriting, finished(draft, draft.op("MaxPool", convolved, **POOL)), reason)

    @pytest.mark.parametrize(
        ("op_type", "operands", "given"),
        [
            ("Relu", (), {}),
            ("Clip", (-0.5, 0.75), {}),
            ("Clip", (None, 0.75), {}),
            ("Clip", (0.75, -0.5), {}),
            ("LeakyRelu", (), {"alpha": 0.25}),
            ("LeakyRelu", (), {"alpha": 1.5}),
            ("PRelu", (SLOPES,), {}),
        ],
    )
    def test_activation_moves_behind(
        self, toolbox: Any, rewriting: Any, op_type: str, operands: tuple[Any, ...], given: dict[str, Any]
    ) -> None:
        model = activated(toolbox, op_type, *operands, **given)[0]
        x = toolbox.adversarial((2, *LARGER), finite=True)
        x[0, 0, 18, 18], x[1, 2, 15, 20] = np.nan, np.inf
        result = applied(toolbox, rewriting, model, x)
        assert (result.changes, result.declined) == (1, ())
        stem, between = model.graph
        assert (stem.op_type, stem.name) == (opset.STEM_CONV2D_MAX_POOL, "stem")
        assert stem.metadata_props == {"of": "conv", "also": "kept"}
        assert (between.op_type, between.name, between.metadata_props) == (op_type, "between", {"of": "between"})
        assert between.inputs[0] is stem.outputs[0] and between.outputs[0].name == "pool_out"
        for value in (stem.outputs[0], between.outputs[0]):
            assert value.shape == ["batch", 4, 10, 10] and value.dtype == ir.DataType.FLOAT

    @settings(max_examples=15)
    @given(low=st.floats(-3, 3, width=32), high=st.floats(-3, 3, width=32), seed=st.integers(0, 99))
    def test_clip_of_any_bounds_moves_behind(
        self, toolbox: Any, rewriting: Any, low: float, high: float, seed: int
    ) -> None:
        model = activated(toolbox, "Clip", low, high)[0]
        assert applied(toolbox, rewriting, model, toolbox.adversarial((1, *LARGER), seed, finite=True)).changes == 1

    @pytest.mark.parametrize(
        ("op_type", "operands", "given"),
        [
            ("LeakyRelu", (), {"alpha": -0.25}),
            ("LeakyRelu", (), {"alpha": np.inf}),
            ("PRelu", (-SLOPES,), {}),
            ("Clip", (np.nan, 1.0), {}),
            ("Clip", ("x", 1.0), {}),
        ],
    )
    def test_activation_that_may_fall_is_declined(
        self, toolbox: Any, rewriting: Any, op_type: str, operands: tuple[Any, ...], given: dict[str, Any]
    ) -> None:
        model = activated(toolbox, op_type, *operands, **given)[0]
        self.stays(toolbox, rewriting, model, f"the {op_type} between them may fall")

    @pytest.mark.parametrize("node", ["stem", "between"])
    def test_activation_that_is_read_elsewhere_is_declined(self, toolbox: Any, rewriting: Any, node: str) -> None:
        model, values = activated(toolbox, "Relu", also=node)
        assert values[node].is_graph_output()
        self.stays(toolbox, rewriting, model, "more is read of it than the largest values")

    def test_activation_that_falls_would_differ(self, toolbox: Any) -> None:
        """What the condition on slopes is for."""
        x = toolbox.adversarial((1, *LARGER), finite=True)
        behind, _, pooled = stem_of(toolbox)
        behind["x"].shape = ir.Shape(["batch", *LARGER])
        moved = finished(behind, behind.op("LeakyRelu", pooled, alpha=-0.25))
        falls = activated(toolbox, "LeakyRelu", alpha=-0.25)[0]
        (found,), (expected,) = (toolbox.run_in_onnxruntime(model, {"x": x}) for model in (moved, falls))
        assert (found != expected).any()

    @pytest.mark.parametrize(
        ("kernel", "strides"),
        [((3, 3), [2, 2]), ((5, 5), [2, 2]), ((7, 3), [2, 2]), ((7, 7), [1, 1]), ((7, 7), [2, 1])],
    )
    def test_that_is_none_is_not_mentioned(
        self, toolbox: Any, rewriting: Any, kernel: tuple[int, int], strides: list[int]
    ) -> None:
        model = stem_model(toolbox, weight=toolbox.weights(4, 3, *kernel), conv={"strides": strides})
        result = rewriting.apply(model, FuseFloatPass())
        assert (result.changes, result.declined) == (0, ())
        assert toolbox.op_types(model) == ["Conv", "MaxPool"]


def block(toolbox: Any, draft: Any, channels: int = 5) -> ir.Value:
    """What a packed convolution writes, [N, channels, 6, 7], of the draft's x: [N, 5, 6, 7]."""
    weight = toolbox.weights(channels, 5, 3, 3)
    return draft.conv(draft.binarize(draft["x"]), weight, pads=[1] * 4, shape=["batch", channels, 6, 7])


def pooled_model(
    toolbox: Any,
    rewriting: Any,
    *,
    window: dict[str, Any] | None = None,
    weight: Any = None,
    bias: Any = None,
    conv: dict[str, Any] | None = None,
    of_input: bool = False,
    also_pool: bool = False,
) -> ir.Model:
    """An average pool of what a packed convolution writes, and with `weight` a convolution behind it."""
    draft = toolbox.Draft(x=["batch", 5, 6, 7])
    source = draft["x"] if of_input else block(toolbox, draft)
    given = {**HALVES, **(window or {})}
    y = pooled = draft.op("AveragePool", source, node="pool", metadata={"of": "pool"}, **given)
    if weight is not None:
        operands = [draft.constant("down.weight", weight), *([draft.constant("down.bias", bias)] if bias else [])]
        y = draft.op("Conv", pooled, *operands, node="down", metadata={"of": "conv"}, **(conv or {}))
    return rewriting.packed(finished(draft, y, *([pooled] if also_pool else [])))


X = (2, 5, 6, 7)


class TestAveragePool:
    def test_becomes_one_op(self, toolbox: Any, rewriting: Any) -> None:
        model = pooled_model(toolbox, rewriting)
        assert applied(toolbox, rewriting, model, toolbox.adversarial(X)).changes == 1
        node = toolbox.node(model, "pool")
        assert (node.domain, node.op_type) == (opset.DOMAIN, opset.AVERAGE_POOL2D)
        assert attributes(node) == HALVES and node.metadata_props == {"of": "pool"}

    @pytest.mark.parametrize("bias", [None, [0.5, -1.0, 2.0]])
    def test_with_a_convolution_becomes_one_op(self, toolbox: Any, rewriting: Any, bias: Any) -> None:
        model = pooled_model(toolbox, rewriting, weight=toolbox.weights(3, 5, 1, 1), bias=bias)
        result = applied(toolbox, rewriting, model, toolbox.adversarial(X))
        assert (result.changes, result.declined) == (1, ())
        node = toolbox.node(model, "down")
        assert (node.domain, node.op_type) == (opset.DOMAIN, opset.AVERAGE_POOL_CONV2D)
        assert attributes(node) == HALVES and node.metadata_props == {"of": "conv"}
        np.testing.assert_array_equal(toolbox.array(node.inputs[2]), np.float32(bias or [0, 0, 0]))
        assert "AveragePool" not in toolbox.op_types(model)

    @settings(max_examples=15)
    @given(
        kernel=st.tuples(st.integers(1, 6), st.integers(1, 7)),
        strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
        usual=st.booleans(),
        convolves=st.booleans(),
    )
    def test_of_any_geometry(
        self,
        toolbox: Any,
        rewriting: Any,
        kernel: tuple[int, int],
        strides: tuple[int, int],
        usual: bool,
        convolves: bool,
    ) -> None:
        said = {"auto_pad": "NOTSET", "dilations": [1, 1], "pads": [0, 0, 0, 0]}
        window = {"kernel_shape": list(kernel), "strides": list(strides)}
        model = pooled_model(
            toolbox,
            rewriting,
            window={**window, **({**said, "ceil_mode": 0, "count_include_pad": 1} if usual else {})},
            weight=toolbox.weights(3, 5, 1, 1) if convolves else None,
            conv={**said, "group": 1, "kernel_shape": [1, 1], "strides": [1, 1]} if usual else {},
        )
        assert applied(toolbox, rewriting, model, toolbox.adversarial(X, finite=True)).changes == 1
        assert attributes(list(model.graph)[-1]) == window

    def test_strides_that_are_not_said_are_1(self, toolbox: Any, rewriting: Any) -> None:
        model = pooled_model(toolbox, rewriting)
        toolbox.node(model, "pool").attributes.pop("strides")
        assert applied(toolbox, rewriting, model, toolbox.adversarial(X)).changes == 1
        assert attributes(toolbox.node(model, "pool")) == {"kernel_shape": [2, 2], "strides": [1, 1]}

    @pytest.mark.parametrize(
        "window",
        [
            {"pads": [1, 1, 1, 1]},
            {"pads": [0, 0, 0, 1]},
            {"ceil_mode": 1},
            {"dilations": [2, 2]},
            {"auto_pad": "VALID"},
        ],
    )
    def test_that_is_not_plain_stays(self, toolbox: Any, rewriting: Any, window: dict[str, Any]) -> None:
        model = pooled_model(toolbox, rewriting, window=window, weight=toolbox.weights(3, 5, 1, 1))
        result = rewriting.apply(model, FuseFloatPass())
        assert (result.changes, result.declined) == (0, ())

    @pytest.mark.parametrize("convolves", [True, False])
    def test_that_reads_no_op_of_ours_stays(self, toolbox: Any, rewriting: Any, convolves: bool) -> None:
        weight = toolbox.weights(3, 5, 1, 1) if convolves else None
        model = pooled_model(toolbox, rewriting, weight=weight, of_input=True)
        assert rewriting.apply(model, FuseFloatPass()).changes == 0

    @pytest.mark.parametrize(
        ("kernel", "conv"),
        [
            ((3, 5, 2, 2), {}),
            ((3, 5, 1, 1), {"strides": [2, 2]}),
            ((3, 5, 1, 1), {"pads": [0, 1, 0, 0]}),
            ((5, 1, 1, 1), {"group": 5}),
        ],
    )
    def test_alone_where_the_convolution_is_another(
        self, toolbox: Any, rewriting: Any, kernel: tuple[int, ...], conv: dict[str, Any]
    ) -> None:
        model = pooled_model(toolbox, rewriting, weight=toolbox.weights(*kernel), conv=conv)
        applied(toolbox, rewriting, model, toolbox.adversarial(X, finite=True))
        assert toolbox.op_types(model)[-2:] == [opset.AVERAGE_POOL2D, "Conv"]

    def test_alone_where_it_is_read_elsewhere(self, toolbox: Any, rewriting: Any) -> None:
        model = pooled_model(toolbox, rewriting, weight=toolbox.weights(3, 5, 1, 1), also_pool=True)
        applied(toolbox, rewriting, model, toolbox.adversarial(X, finite=True))
        assert toolbox.op_types(model)[-2:] == [opset.AVERAGE_POOL2D, "Conv"]

    def test_one_behind_another_and_behind_a_stem(self, toolbox: Any, rewriting: Any) -> None:
        draft, _, pooled = stem_of(toolbox)
        for index in range(2):
            pooled = draft.op("AveragePool", pooled, node=f"average{index}", **HALVES)
        model = finished(draft, pooled)
        assert applied(toolbox, rewriting, model, toolbox.adversarial((2, *IMAGE))).changes == 3
        assert toolbox.op_types(model) == [opset.STEM_CONV2D_MAX_POOL, opset.AVERAGE_POOL2D, opset.AVERAGE_POOL2D]

    def test_of_float16_stays(self, toolbox: Any, rewriting: Any) -> None:
        model = pooled_model(toolbox, rewriting)
        for name in ("conv", "pool"):
            toolbox.node(model, name).outputs[0].type = ir.TensorType(ir.DataType.FLOAT16)
        toolbox.node(model, "conv").op_type = opset.FLOAT16_OPS[opset.PACKED_CONV2D]
        assert rewriting.apply(model, FuseFloatPass()).changes == 0


@pytest.mark.parametrize("precision", [opset.FP32, opset.FP16])
def test_is_for_files_of_float32(precision: str) -> None:
    steps = [type(step).__name__ for step in deploy_passes(precision)]
    assert ("FuseFloatPass" in steps) == (precision == opset.FP32)
