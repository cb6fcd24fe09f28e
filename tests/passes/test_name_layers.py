"""Nodes are named by the modules that they come from."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
import pytest

from bnn_deploy.passes.name_layers import NameLayersPass

SCOPES = "pkg.torch.onnx.name_scopes"


def names(model: ir.Model) -> list[str | None]:
    return [node.name for node in model.graph]


@pytest.fixture
def draft(toolbox: Any) -> Any:
    return toolbox.Draft(x=["batch", 2, 4, 4])


def test_the_attribute_of_our_layers_comes_first(toolbox: Any, draft: Any) -> None:
    scopes = {SCOPES: "['', 'elsewhere', 'op']"}
    y = draft.conv(
        draft.binarize(draft["x"], "layer1.0.conv"), toolbox.weights(2, 2, 1, 1), "layer1.0.conv", metadata=scopes
    )
    y = draft.linear(draft.op("Flatten", y), toolbox.weights(2, 32), "fc")
    model = draft.model(y)
    result: Any = NameLayersPass()(model)
    assert names(model) == ["layer1.0.conv/Binarize", "layer1.0.conv", "Flatten_2", "fc"]
    assert result.changes == 3


def test_later_calls_of_a_layer_are_numbered_in_call_order(toolbox: Any, draft: Any) -> None:
    weight = draft.constant("conv.weight", toolbox.weights(2, 2, 1, 1))
    y = draft["x"]
    for _ in range(3):
        y = draft.conv(draft.binarize(y, "conv"), weight, "conv")
    model = draft.model(y)
    NameLayersPass()(model)
    assert names(model) == ["conv/Binarize", "conv", "conv/Binarize#2", "conv#2", "conv/Binarize#3", "conv#3"]


def test_without_the_attribute_the_metadata_of_the_exporter_serves(toolbox: Any, draft: Any) -> None:
    scopes = {SCOPES: "['', 'block', 'block.conv', 'conv2d']"}
    y = draft.binarize(draft["x"], "", metadata=scopes)
    y = draft.conv(y, toolbox.weights(2, 2, 1, 1), "", metadata=scopes)
    model = draft.model(y)
    NameLayersPass()(model)
    assert names(model) == ["block.conv/Binarize", "block.conv"]


def test_then_the_node_name_of_the_older_exporter(toolbox: Any, draft: Any) -> None:
    y = draft.conv(draft["x"], toolbox.weights(2, 2, 1, 1), "", node="/block/block.conv/BinaryConv2d")
    y = draft.op("Relu", y, node="/block/block.relu/Relu")
    y = draft.op("Abs", y, node="/Abs")
    model = draft.model(y)
    NameLayersPass()(model)
    assert names(model) == ["block.conv", "block.relu/Relu", "/Abs"]


def test_then_the_op_type(toolbox: Any, draft: Any) -> None:
    weights = toolbox.weights(2, 2, 1, 1)
    y = draft.conv(draft.conv(draft["x"], weights, ""), draft.constant("w", weights), "")
    model = draft.model(y)
    NameLayersPass()(model)
    assert names(model) == ["BinaryConv2d", "BinaryConv2d#2"]


@pytest.mark.parametrize("text", ["not python", "['unclosed", "5", "{}", "[]", "['op']"])
def test_metadata_that_says_nothing_leaves_a_node_its_name(draft: Any, text: str) -> None:
    model = draft.model(draft.op("Relu", draft["x"], node="kept", metadata={SCOPES: text}))
    NameLayersPass()(model)
    assert names(model) == ["kept"]


def test_a_float_layer_is_its_module_and_anything_else_is_named_by_its_op_too(toolbox: Any, draft: Any) -> None:
    in_module = {SCOPES: "['', 'stem', 'op']"}
    y = draft.op("Conv", draft["x"], draft.constant("w", toolbox.weights(2, 2, 1, 1)), metadata=in_module)
    y = draft.op("Relu", y, metadata=in_module)
    y = draft.op("Relu", y, metadata=in_module)
    model = draft.model(y)
    NameLayersPass()(model)
    assert names(model) == ["stem", "stem/Relu", "stem/Relu#2"]


@pytest.mark.parametrize("op_type", ["Conv", "Gemm", "MatMul"])
def test_a_float_layer_is_the_owner_of_its_weight(toolbox: Any, draft: Any, op_type: str) -> None:
    """The exporter fuses a BatchNorm into a convolution and records the BatchNorm as where it comes from."""
    weight = draft.constant("stem.conv.weight", toolbox.weights(4, 4))
    y = draft.op(op_type, draft["x"], weight, metadata={SCOPES: "['', 'stem', 'stem.bn', 'op']"})
    model = draft.model(y)
    NameLayersPass()(model)
    assert names(model) == ["stem.conv"]


def test_an_input_that_is_called_weight_owns_nothing(toolbox: Any) -> None:
    draft = toolbox.Draft(x=[2, 2], **{"other.weight": [2, 2]})
    model = draft.model(draft.op("MatMul", draft["x"], draft["other.weight"], node="kept"))
    NameLayersPass()(model)
    assert names(model) == ["kept"]


def test_running_it_again_changes_nothing(toolbox: Any, draft: Any) -> None:
    here = {SCOPES: "['', 'm', 'op']"}
    weight = draft.constant("m.latent", toolbox.weights(2, 2, 1, 1))
    y = draft.conv(draft.conv(draft["x"], weight, "m"), weight, "m")
    y = draft.op("Conv", y, draft.constant("w", toolbox.weights(2, 2, 1, 1)), metadata=here)
    y = draft.op("Relu", draft.op("Relu", y, metadata=here), node="/m/n/Relu")
    model = draft.model(y)
    NameLayersPass()(model)
    before = names(model)
    assert before == ["m", "m#2", "m#3", "m/Relu", "n/Relu"]
    assert not NameLayersPass()(model).modified
    assert names(model) == before
    toolbox.packed(model)
    NameLayersPass()(model)
    assert names(model) == before, "also where the binary layers are packed already and no longer count"
