"""Binarisations that stay float become comparisons and selections."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from bnn_deploy.bits import Levels
from bnn_deploy.passes.base import PassResult
from bnn_deploy.passes.lower_binarize import LowerBinarizePass
from bnn_deploy.passes.name_layers import NameLayersPass


def run(model: ir.Model) -> PassResult:
    NameLayersPass()(model)
    result = LowerBinarizePass()(model)
    assert isinstance(result, PassResult)
    return result


OPS = {
    Levels.BIPOLAR: ["GreaterOrEqual", "Where"],
    Levels.UNIPOLAR: ["Greater", "Where"],
    Levels.TERNARY: ["GreaterOrEqual", "Where", "Greater", "Where"],
}


@pytest.mark.parametrize("levels", Levels)
@pytest.mark.parametrize("optimise", [True, False])
def test_values(toolbox: Any, levels: Levels, optimise: bool) -> None:
    draft = toolbox.Draft(x=["batch", 9, 3])
    model = draft.model(draft.binarize(draft["x"], levels=str(levels)))
    x = toolbox.adversarial((4, 9, 3))
    (expected,) = toolbox.evaluate(model, x=x)
    result = run(model)
    assert result.changes == 1
    assert toolbox.op_types(model) == OPS[levels]
    for (found,) in (toolbox.evaluate(model, x=x), toolbox.run_in_onnxruntime(model, {"x": x}, optimise=optimise)):
        assert (found == expected).all()
        assert found.dtype == np.float32


@pytest.mark.parametrize("dtype", [ir.DataType.DOUBLE, ir.DataType.FLOAT16])
def test_the_levels_have_the_type_of_the_input(toolbox: Any, dtype: ir.DataType) -> None:
    draft = toolbox.Draft(x=["batch", 3])
    y = draft.binarize(draft["x"], levels="ternary")
    draft["x"].type = y.type = ir.TensorType(dtype)
    model = draft.model(y)
    run(model)
    x = np.array([[0.5, -0.0, -3]], dtype.numpy())
    (found,) = toolbox.run_in_onnxruntime(model, {"x": x})
    assert (found.tolist(), found.dtype) == ([[1, 0, -1]], dtype.numpy())


@pytest.mark.parametrize("levels", Levels)
def test_nothing_is_left_that_the_graph_does_not_hold(toolbox: Any, levels: Levels) -> None:
    """A node that was made and not inserted would go on counting as a reader of its operands."""
    draft = toolbox.Draft(x=["batch", 3])
    model = draft.model(draft.binarize(draft["x"], levels=str(levels)))
    run(model)
    held = set(model.graph)
    values = [draft["x"], *model.graph.initializers.values()]
    assert all(use.node in held for value in values for use in value.uses())
    assert all(value.uses() for value in values)


def test_the_name_of_an_output_of_the_network_stays(toolbox: Any) -> None:
    draft = toolbox.Draft(x=["batch", 3])
    y = draft.binarize(draft["x"], "act")
    y.name = "bits"
    model = draft.model(y)
    result = run(model)
    assert [output.name for output in model.graph.outputs] == ["bits"]
    (declined,) = result.declined
    assert declined.layer == "act/Binarize"
    assert "the network's output" in declined.reason


def test_the_reason_names_who_wants_real_numbers(toolbox: Any) -> None:
    draft = toolbox.Draft(x=["batch", 3])
    y = draft.binarize(draft["x"], "act")
    model = draft.model(draft.op("Add", y, draft.op("Relu", y)))
    (declined,) = run(model).declined
    assert "Add, Relu" in declined.reason


def test_a_binarisation_that_nobody_reads_is_left_to_the_clean_up(toolbox: Any) -> None:
    draft = toolbox.Draft(x=["batch", 3])
    draft.binarize(draft["x"])
    model = draft.model(draft.op("Relu", draft["x"]))
    result = run(model)
    assert (result.changes, result.declined) == (0, ())
    assert toolbox.op_types(model) == ["Binarize", "Relu"]
