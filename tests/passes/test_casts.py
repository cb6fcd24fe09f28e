"""One cast for all who want a tensor in its other type."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from bnn_deploy.passes.casts import Casts

X = (2, 3)


def test_one_for_two_readers(toolbox: Any) -> None:
    draft = toolbox.Draft(x=X)
    first = draft.op("Relu", draft["x"], node="first", shape=X)
    second = draft.op("Neg", draft["x"], node="second", shape=X)
    model = draft.model(first, second)
    casts = Casts(model)
    for name in ("first", "second"):
        casts.narrow(toolbox.node(model, name), 0)
        casts.narrow(toolbox.node(model, name), 0)
    assert toolbox.op_types(model) == ["Cast", "Relu", "Neg"]
    assert first.producer().inputs[0] is second.producer().inputs[0]
    assert first.producer().inputs[0].dtype == ir.DataType.FLOAT16


def test_a_constant_is_another_constant(toolbox: Any) -> None:
    draft = toolbox.Draft(x=X)
    third = draft.constant("third", np.float32(1 / 3))
    model = draft.model(draft.op("Mul", draft["x"], third, node="op", shape=X))
    casts = Casts(model)
    assert casts.constant(third) == np.float32(1 / 3) and casts.constant(draft["x"]) is None
    casts.narrow(toolbox.node(model, "op"), 1)
    assert list(model.graph.initializers) == ["third.fp16"]
    assert toolbox.array(model.graph.initializers["third.fp16"]) == np.float16(1 / 3)
    assert toolbox.op_types(model) == ["Mul"]


def test_constants_are_followed(toolbox: Any) -> None:
    draft = toolbox.Draft(x=X)
    half = draft.op("Neg", draft.constant("c", np.float32(-0.5)), node="negative", shape=())
    model = draft.model(draft.op("Mul", draft["x"], half, node="op", shape=X))
    casts = Casts(model)
    assert [casts.is_constant_node(node) for node in model.graph] == [True, False]
    assert casts.constant(half) == 0.5


def test_an_output_keeps_name_and_type(toolbox: Any) -> None:
    draft = toolbox.Draft(x=X)
    y = draft.op("Relu", draft["x"], node="op", shape=X)
    model = draft.model(y, y)
    casts = Casts(model)
    assert casts.restore_outputs() == 0
    y.type = ir.TensorType(ir.DataType.FLOAT16)
    assert casts.restore_outputs() == 1
    for output in model.graph.outputs:
        assert (output.name, output.dtype, output.shape) == ("op_out", ir.DataType.FLOAT, ir.Shape(X))
    assert toolbox.op_types(model) == ["Relu", "Cast"]
