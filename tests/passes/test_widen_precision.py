"""Back to float32: what `lower_precision` did is undone, but for what constants lost."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray
from onnx_ir.passes.common import IdentityEliminationPass

from bnn_deploy import opset
from bnn_deploy.passes.lower_precision import LowerPrecisionPass
from bnn_deploy.passes.widen_precision import WidenPrecisionPass

FLOAT, FLOAT16 = ir.DataType.FLOAT, ir.DataType.FLOAT16
X = (2, 5, 6, 7)


def dyadic(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    """Small multiples of 1/4: their sums are exact in float16."""
    return (np.random.default_rng(seed).integers(-3, 4, shape) / 4).astype(np.float32)


def network(toolbox: Any) -> ir.Model:
    """A convolution and a ReLU, which two outputs return, and a packed layer with a shortcut."""
    draft = toolbox.Draft(x=X)
    stem = draft.op("Conv", draft["x"], draft.constant("w", dyadic(5, 5, 1, 1)), node="stem", shape=X)
    relu = draft.op("Relu", stem, node="relu", shape=X)
    words = draft.op("PackBipolar", stem, draft.constant("t", [0.0]), domain=opset.DOMAIN, channels=5)
    words.type, words.shape = ir.TensorType(ir.DataType.INT32), ir.Shape((2, 6, 7, 1))
    parameters = [draft.constant("signs", np.arange(5, dtype=np.int32).reshape(5, 1, 1, 1))]
    parameters += [draft.constant("scale", dyadic(5, seed=1)), draft.constant("bias", dyadic(5, seed=2))]
    geometry = {"strides": [1, 1], "pads": [0] * 4, "dilations": [1, 1], "group": 1, "pad_value": 0.0, "low": -1.0}
    y = draft.op(
        "PackedConv2dAdd", words, *parameters, relu, domain=opset.DOMAIN, channels=5, node="layer", shape=X, **geometry
    )
    return draft.model(relu, draft.op("Add", y, relu, node="sum", shape=X))


def half(value: ir.Value) -> ir.Value:
    value.type = ir.TensorType(FLOAT16)
    return value


def marked(model: ir.Model) -> ir.Model:
    """A file that says it is float16, in place."""
    model.metadata_props[opset.PRECISION] = opset.FP16
    return model


def test_what_was_lowered_comes_back(toolbox: Any, rewriting: Any) -> None:
    model, x = network(toolbox), dyadic(*X, seed=3)
    types, before = toolbox.op_types(model), rewriting.outputs(model, x=x)
    LowerPrecisionPass()(model)
    assert toolbox.op_types(model) != types
    assert rewriting.apply(model, WidenPrecisionPass()).changes > len(types)
    assert opset.PRECISION not in model.metadata_props
    IdentityEliminationPass()(model)
    rewriting.check(model)
    assert toolbox.op_types(model) == types
    values = [*model.graph.initializers.values(), *(value for node in model.graph for value in node.outputs)]
    assert FLOAT16 not in {value.dtype for value in values}
    for found, expected in zip(rewriting.outputs(model, x=x), before, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_layer_alone_says_that_the_file_is_float16(toolbox: Any, rewriting: Any) -> None:
    model = network(toolbox)
    LowerPrecisionPass()(model)
    del model.metadata_props[opset.PRECISION]
    assert rewriting.apply(model, WidenPrecisionPass()).changes > 0
    assert toolbox.node(model, "layer").op_type == "PackedConv2dAdd"


def test_float16_of_the_models_own_is_left_alone(toolbox: Any, rewriting: Any) -> None:
    draft = toolbox.Draft(x=X)
    rounded = half(draft.op("Cast", draft["x"], to=int(FLOAT16), shape=X))
    model = draft.model(draft.op("Cast", rounded, to=int(FLOAT), shape=X))
    assert rewriting.apply(model, WidenPrecisionPass()).changes == 0
    assert toolbox.op_types(model) == ["Cast", "Cast"]


def test_inputs_and_outputs_keep_their_types(toolbox: Any, rewriting: Any) -> None:
    draft = toolbox.Draft(x=X, unread=X)
    half(draft["x"])
    scaled = half(draft.op("Mul", draft["x"], draft.constant("c", np.float16([0.1])), node="scaled", shape=X))
    wide = draft.op("Cast", draft["x"], to=int(FLOAT), shape=X)
    summed = draft.op("Add", wide, draft.op("Cast", scaled, to=int(FLOAT), shape=X), shape=X)
    model = marked(draft.model(scaled, summed, scaled))
    rewriting.apply(model, WidenPrecisionPass())
    IdentityEliminationPass()(model)
    rewriting.check(model)
    assert [value.dtype for value in model.graph.outputs] == [FLOAT16, FLOAT, FLOAT16]
    assert sorted(toolbox.op_types(model)) == ["Add", "Cast", "Cast", "Mul"]
    x = dyadic(*X).astype(np.float16)
    exact = x.astype(np.float32) * np.float32(np.float16(0.1))
    found = toolbox.run_in_onnxruntime(model, {"x": x, "unread": np.zeros(X, np.float32)})
    np.testing.assert_array_equal(found[0], exact.astype(np.float16))
    np.testing.assert_array_equal(found[1], x.astype(np.float32) + exact)
    np.testing.assert_array_equal(found[2], found[0])


@pytest.mark.parametrize("kind", ["Constant", "ConstantOfShape", "EyeLike", "Cast"])
def test_types_that_an_attribute_names(kind: str, toolbox: Any, rewriting: Any) -> None:
    draft = toolbox.Draft(x=(3, 3))
    tensor = ir.tensor(np.float16([0.1]))
    if kind == "Constant":
        made = draft.op("Constant", value=tensor)
    elif kind == "ConstantOfShape":
        made = draft.op("ConstantOfShape", draft.constant("size", np.array([3, 3])), value=tensor)
    elif kind == "EyeLike":
        made = draft.op("EyeLike", draft["x"], dtype=int(FLOAT16))
    else:
        made = draft.op("Cast", draft.constant("given", np.array([True])), to=int(FLOAT16))
    summed = half(draft.op("Add", half(draft.op("Cast", draft["x"], to=int(FLOAT16))), half(made)))
    model = marked(draft.model(draft.op("Cast", summed, to=int(FLOAT), shape=(3, 3))))
    rewriting.apply(model, WidenPrecisionPass())
    x = np.full((3, 3), 1 / 3, np.float32)
    added = {"EyeLike": np.eye(3, dtype=np.float32), "Cast": np.float32(1)}.get(kind, np.float32(np.float16(0.1)))
    np.testing.assert_array_equal(toolbox.run_in_onnxruntime(model, {"x": x})[0], x + added)


def test_a_branch_is_widened_too(toolbox: Any, rewriting: Any) -> None:
    draft = toolbox.Draft(x=X)
    x = half(draft.op("Cast", draft["x"], to=int(FLOAT16), shape=X))
    branches = {}
    for name, number in (("then_branch", 2.0), ("else_branch", 3.0)):
        array = np.float16([number])
        factor = half(ir.Value(name=f"{name}.factor", shape=ir.Shape((1,)), const_value=ir.tensor(array)))
        node = ir.node("Mul", [x, factor], name=f"{name}/Mul")
        half(node.outputs[0]).name, node.outputs[0].shape = f"{name}.y", ir.Shape(X)
        branches[name] = ir.Graph([], node.outputs, nodes=[node], initializers=[factor], name=name)
    chosen = half(draft.op("If", draft.constant("flag", np.array(True)), shape=X, **branches))
    model = marked(draft.model(draft.op("Cast", chosen, to=int(FLOAT), shape=X)))
    assert WidenPrecisionPass()(model).modified
    inputs = np.full(X, 1 / 3, np.float32)
    np.testing.assert_array_equal(toolbox.run_in_onnxruntime(model, {"x": inputs})[0], inputs * 2)
