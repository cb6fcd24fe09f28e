"""What only moves elements is moved above the binarisation."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from bnn_deploy.passes.base import PassResult
from bnn_deploy.passes.hoist_reshapes import HoistReshapesPass
from bnn_deploy.passes.name_layers import NameLayersPass
from bnn_deploy.passes.pack_weights import PackWeightsPass


def run(model: ir.Model) -> PassResult:
    NameLayersPass()(model)
    result = HoistReshapesPass()(model)
    assert isinstance(result, PassResult)
    return result


def alive(model: ir.Model) -> list[str]:
    """The op types of the nodes whose output is read."""
    return [node.op_type for node in model.graph if node.outputs[0].uses() or node.outputs[0].is_graph_output()]


@pytest.fixture
def draft(toolbox: Any) -> Any:
    return toolbox.Draft(x=["batch", 4, 3, 3])


def move(draft: Any, value: ir.Value, kind: str) -> ir.Value:
    """[N, 4, 3, 3] -> [N, 36], by way of different ops."""
    if kind == "Flatten":
        return draft.op("Flatten", value, axis=1)
    if kind == "Reshape":
        return draft.op("Reshape", value, draft.constant("to", np.array([-1, 36])))
    if kind == "Unsqueeze, Squeeze, Flatten":
        axes = draft.constant("axes", np.array([1]))
        return draft.op("Flatten", draft.op("Squeeze", draft.op("Unsqueeze", value, axes), axes), axis=1)
    return draft.op("Flatten", draft.op("Identity", value), axis=1)


@pytest.mark.parametrize("kind", ["Flatten", "Reshape", "Identity, Flatten", "Unsqueeze, Squeeze, Flatten"])
@pytest.mark.parametrize("packed_first", [False, True])
def test_moves_go_above(toolbox: Any, draft: Any, kind: str, packed_first: bool) -> None:
    flat = move(draft, draft.binarize(draft["x"]), kind)
    model = draft.model(draft.linear(flat, toolbox.weights(5, 36), weight_scale="none"))
    x = toolbox.adversarial((2, 4, 3, 3))
    (expected,) = toolbox.evaluate(model, x=x)
    if packed_first:
        PackWeightsPass()(model)
    result = run(model)
    assert result.modified
    assert result.declined == ()
    layer = list(model.graph)[-1] if not packed_first else next(n for n in model.graph if "Linear" in n.op_type)
    assert layer.inputs[0].producer().op_type == "Binarize"
    assert (toolbox.evaluate(model, x=x)[0] == expected).all()


def test_a_binarisation_keeps_its_name_and_attributes(toolbox: Any, draft: Any) -> None:
    flat = draft.op("Flatten", draft.binarize(draft["x"], "fc", levels="ternary"), axis=1)
    model = draft.model(draft.linear(flat, toolbox.weights(5, 36)))
    run(model)
    moved = list(model.graph)[-1].inputs[0].producer()
    assert (moved.name, moved.attributes["levels"].as_string()) == ("fc/Binarize", "ternary")


def test_shape_reads_what_is_binarised(toolbox: Any) -> None:
    """The rows that a fully connected layer gathers need the shape, which the binarisation does not change."""
    draft = toolbox.Draft(x=["batch", 5, 40])
    model = draft.model(draft.linear(draft.binarize(draft["x"]), toolbox.weights(3, 40), weight_scale="none"))
    x = toolbox.adversarial((2, 5, 40))
    (expected,) = toolbox.evaluate(model, x=x)
    NameLayersPass()(model)
    PackWeightsPass()(model)
    run(model)
    (shape,) = [node for node in model.graph if node.op_type == "Shape"]
    assert shape.inputs[0] is model.graph.inputs[0]
    assert alive(model).count("Binarize") == 1
    (layer,) = [node for node in model.graph if node.op_type == "BinaryWeightLinear"]
    assert layer.inputs[0].producer().op_type == "Binarize"
    assert (toolbox.evaluate(model, x=x)[0] == expected).all()


def test_a_float_reader_keeps_the_binarisation_that_it_had(toolbox: Any, draft: Any) -> None:
    binarized = draft.binarize(draft["x"])
    flat = draft.op("Flatten", binarized, axis=1)
    ends = [draft.linear(flat, toolbox.weights(5, 36), weight_scale="none"), draft.op("Neg", binarized)]
    model = draft.model(*ends)
    x = toolbox.adversarial((2, 4, 3, 3))
    expected = toolbox.evaluate(model, x=x)
    assert run(model).changes == 1
    assert alive(model).count("Binarize") == 2
    for found, wanted in zip(toolbox.evaluate(model, x=x), expected, strict=True):
        assert (found == wanted).all()


@pytest.mark.parametrize("other", ["conv", "flatten"])
def test_declined_where_it_would_have_to_be_packed_twice(toolbox: Any, draft: Any, other: str) -> None:
    binarized = draft.binarize(draft["x"])
    flat = draft.op("Flatten", binarized, axis=1)
    second = (
        draft.conv(binarized, toolbox.weights(2, 4, 1, 1))
        if other == "conv"
        else draft.linear(draft.op("Flatten", binarized, axis=2), toolbox.weights(2, 9), "other")
    )
    model = draft.model(draft.linear(flat, toolbox.weights(5, 36), "fc"), second)
    before = toolbox.op_types(model)
    result = run(model)
    assert result.changes == 0
    assert "fc" in [declined.layer for declined in result.declined]
    assert "Flatten" in result.declined[0].reason
    assert toolbox.op_types(model) == before


def test_what_no_1_bit_layer_reads_stays(toolbox: Any, draft: Any) -> None:
    model = draft.model(draft.op("Flatten", draft.binarize(draft["x"]), axis=1))
    assert not run(model).modified
    assert toolbox.op_types(model) == ["Binarize", "Flatten"]


@pytest.mark.parametrize("op_type", ["Relu", "MaxPool", "Transpose"])
def test_an_op_that_does_more_than_move_stays_below(toolbox: Any, draft: Any, op_type: str) -> None:
    attributes = {"MaxPool": {"kernel_shape": [1, 1]}, "Transpose": {"perm": [0, 1, 3, 2]}}.get(op_type, {})
    between = draft.op(op_type, draft.binarize(draft["x"]), **attributes)
    model = draft.model(draft.conv(between, toolbox.weights(2, 4, 1, 1)))
    assert not run(model).modified
    assert toolbox.op_types(model) == ["Binarize", op_type, "BinaryConv2d"]
