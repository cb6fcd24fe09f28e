"""Reading and writing a layer's scale and bias."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from bnn_deploy.passes.epilogue import declines_to_fold, read_epilogue, unrepresentable, write_epilogue


@pytest.fixture
def model(toolbox: Any) -> ir.Model:
    """conv, then Relu, which is the output."""
    draft = toolbox.Draft(x=["batch", 2, 4, 4])
    y = draft.conv(draft.binarize(draft["x"]), toolbox.weights(3, 2, 1, 1), bias=[1 / 3, 0, -2])
    return toolbox.packed(draft.model(draft.op("Relu", y, shape=["batch", 3, 4, 4])))


def test_reading_gives_the_float64_of_the_derivation(toolbox: Any, model: ir.Model) -> None:
    scale, bias = read_epilogue(toolbox.node(model, "conv"))
    expected = np.minimum(np.abs(toolbox.weights(3, 2, 1, 1).astype(np.float64)), 1).mean(axis=(1, 2, 3))
    assert scale.dtype == bias.dtype == np.float64
    assert scale.tolist() == expected.tolist()
    assert (scale != scale.astype(np.float32)).any()
    assert bias.tolist() == [float(np.float32(1 / 3)), 0, -2]


def test_writing_takes_the_absorbed_node_out_and_its_name_over(toolbox: Any, model: ir.Model) -> None:
    layer, absorbed = toolbox.node(model, "conv"), list(model.graph)[-1]
    name = absorbed.outputs[0].name
    exact = np.array([1 / 3, 2, 3]), np.array([1 / 7, 5, 6])
    before = dict(model.graph.initializers)
    write_epilogue(model, layer, exact, absorbed=absorbed)
    assert [array.tolist() for array in read_epilogue(layer)] == [array.tolist() for array in exact]
    assert toolbox.array(layer.inputs[2]).dtype == np.float32
    assert [output.name for output in model.graph.outputs] == [name]
    assert model.graph.outputs[0] is layer.outputs[0]
    assert layer.outputs[0].shape == ir.Shape(["batch", 3, 4, 4])
    assert "Relu" not in toolbox.op_types(model)
    assert set(model.graph.initializers) == set(before), "the old scale and bias are gone, the new have their names"


def test_writing_leaves_a_scale_that_another_layer_reads_too(toolbox: Any) -> None:
    draft = toolbox.Draft(x=["batch", 2, 4, 4])
    first = draft.conv(draft["x"], toolbox.weights(3, 2, 1, 1), "first")
    second = draft.conv(draft["x"], toolbox.weights(3, 2, 1, 1), "second")
    relu = draft.op("Relu", first)
    model = toolbox.packed(draft.model(relu, second))
    shared = toolbox.node(model, "first").inputs[2]
    toolbox.node(model, "second").replace_input_with(2, shared)
    before = toolbox.array(shared).copy()
    write_epilogue(model, toolbox.node(model, "first"), (np.zeros(3), np.zeros(3)), absorbed=relu.producer())
    assert toolbox.array(toolbox.node(model, "second").inputs[2]).tolist() == before.tolist()
    assert toolbox.array(toolbox.node(model, "first").inputs[2]).tolist() == [0, 0, 0]
    assert model.graph.initializers[shared.name] is shared


def test_nothing_folds_into_an_output_that_is_read_elsewhere(toolbox: Any) -> None:
    draft = toolbox.Draft(x=["batch", 2, 4, 4])
    free, output, twice = (draft.conv(draft["x"], toolbox.weights(3, 2, 1, 1), name) for name in ("a", "b", "c"))
    model = toolbox.packed(draft.model(draft.op("Relu", free), output, draft.op("Add", twice, twice)))
    assert declines_to_fold(toolbox.node(model, "a")) == ""
    assert "an output of the network" in declines_to_fold(toolbox.node(model, "b"))
    assert "read elsewhere" in declines_to_fold(toolbox.node(model, "c"))


@pytest.mark.parametrize(
    ("value", "fits"), [(0.0, True), (3e38, True), (1e-300, True), (3.5e38, False), (np.inf, False), (np.nan, False)]
)
def test_a_file_holds_finite_float32(value: float, fits: bool) -> None:
    rest = np.ones(2)
    assert (unrepresentable((np.array([1.0, value]), rest)) == "") is fits
    assert (unrepresentable((rest, np.array([1.0, value]))) == "") is fits
