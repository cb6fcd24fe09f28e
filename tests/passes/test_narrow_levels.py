"""What is never negative needs one bit for the sign that torch gives it, not two."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from bnn_deploy.passes.narrow_levels import NarrowLevelsPass, never_negative

IMAGE = ["batch", 35, 6, 6]


def layer(toolbox: Any, draft: Any, value: ir.Value, name: str = "layer", **attributes: Any) -> ir.Value:
    binarized = draft.binarize(value, name, "ternary")
    channels, height, width = value.shape[1:]
    attributes = {"pads": [1, 1, 1, 1], "shape": ["batch", 4, height, width], **attributes}
    return draft.conv(binarized, toolbox.weights(4, channels, 3, 3), name, weight_scale="none", **attributes)


@pytest.fixture
def draft(toolbox: Any) -> Any:
    return toolbox.Draft(x=IMAGE)


def relu(draft: Any, value: ir.Value) -> ir.Value:
    return draft.op("Relu", value, shape=value.shape)


SOURCES: dict[str, Callable[[Any, ir.Value], ir.Value]] = {
    "relu": lambda draft, x: relu(draft, x),
    "relu6": lambda draft, x: draft.op(
        "Clip", x, draft.constant("low", np.float32(0)), draft.constant("high", np.float32(6)), shape=IMAGE
    ),
    "sigmoid": lambda draft, x: draft.op("Sigmoid", x, shape=IMAGE),
    "abs": lambda draft, x: draft.op("Abs", x, shape=IMAGE),
    "max-pool": lambda draft, x: draft.op(
        "MaxPool", relu(draft, x), kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[1, 1], shape=IMAGE
    ),
    "average pool": lambda draft, x: draft.op(
        "AveragePool", relu(draft, x), kernel_shape=[2, 2], strides=[2, 2], shape=["batch", 35, 3, 3]
    ),
    "concat": lambda draft, x: draft.op(
        "Concat", relu(draft, x), draft.op("Abs", x, shape=IMAGE), axis=1, shape=["batch", 70, 6, 6]
    ),
    "sum": lambda draft, x: draft.op("Add", relu(draft, x), draft.op("Abs", x, shape=IMAGE), shape=IMAGE),
    "shift up": lambda draft, x: draft.op("Add", relu(draft, x), draft.constant("up", [0.5]), shape=IMAGE),
    "upper bound alone": lambda draft, x: draft.op(
        "Clip", relu(draft, x), None, draft.constant("high", np.float32(1)), shape=IMAGE
    ),
}


@pytest.mark.parametrize("pad_value", [0.0, -1.0, 1.0])
@pytest.mark.parametrize("source", SOURCES)
def test_equal_sums(toolbox: Any, rewriting: Any, draft: Any, source: str, pad_value: float) -> None:
    model = rewriting.packed(
        draft.model(layer(toolbox, draft, SOURCES[source](draft, draft["x"]), pad_value=pad_value))
    )
    x = toolbox.adversarial((7, *IMAGE[1:]), finite=True)
    expected = rewriting.outputs(model, x=x)
    result = rewriting.apply(model, NarrowLevelsPass())
    assert (result.changes, result.declined) == (1, ())
    packed, conv = toolbox.node(model, "layer/Binarize"), toolbox.node(model, "layer")
    assert (packed.op_type, conv.op_type) == ("PackUnipolar", "PackedConv2d")
    assert conv.attributes["low"].as_float() == 0
    assert packed.outputs[0].shape[-1] == -(-int(packed.attributes["channels"].as_int()) // 32)
    np.testing.assert_array_equal(rewriting.outputs(model, x=x), expected)


def test_fully_connected(toolbox: Any, rewriting: Any) -> None:
    draft = toolbox.Draft(x=["batch", 40])
    binarized = draft.binarize(relu(draft, draft["x"]), "fc", "ternary")
    model = rewriting.packed(
        draft.model(draft.linear(binarized, toolbox.weights(6, 40), "fc", shape=["batch", 6], weight_scale="none"))
    )
    x = toolbox.adversarial((7, 40), finite=True)
    expected = rewriting.outputs(model, x=x)
    assert rewriting.apply(model, NarrowLevelsPass()).changes == 1
    assert toolbox.op_types(model) == ["Relu", "PackUnipolar", "PackedLinear"]
    np.testing.assert_array_equal(rewriting.outputs(model, x=x), expected)


def test_several_layers_read_one_pack(toolbox: Any, rewriting: Any, draft: Any) -> None:
    binarized = draft.binarize(relu(draft, draft["x"]), "layer", "ternary")
    same = {"pads": [1, 1, 1, 1], "shape": ["batch", 4, 6, 6], "weight_scale": "none"}
    ends = [draft.conv(binarized, toolbox.weights(4, 35, 3, 3, seed=seed), f"c{seed}", **same) for seed in (1, 2)]
    model = rewriting.packed(draft.model(*ends))
    x = toolbox.adversarial((1, *IMAGE[1:]), finite=True)
    expected = rewriting.outputs(model, x=x)
    assert rewriting.apply(model, NarrowLevelsPass()).changes == 1
    assert toolbox.op_types(model).count("PackedConv2d") == 2
    np.testing.assert_array_equal(rewriting.outputs(model, x=x), expected)


STAYS: dict[str, Callable[[Any, ir.Value], ir.Value]] = {
    "an input": lambda draft, x: x,
    "a shift down": lambda draft, x: draft.op("Add", relu(draft, x), draft.constant("down", [-0.5]), shape=IMAGE),
    "a difference": lambda draft, x: draft.op("Sub", relu(draft, x), relu(draft, x), shape=IMAGE),
    "half of a sum": lambda draft, x: draft.op("Add", relu(draft, x), x, shape=IMAGE),
    "a hard tanh": lambda draft, x: draft.op("Clip", x, draft.constant("low", np.float32(-1)), shape=IMAGE),
    "a clamp below 0": lambda draft, x: draft.op(
        "Clip", relu(draft, x), None, draft.constant("high", np.float32(-1)), shape=IMAGE
    ),
    "a pooled input": lambda draft, x: draft.op("GlobalAveragePool", x, shape=["batch", 35, 1, 1]),
}


@pytest.mark.parametrize("source", STAYS)
def test_declines(toolbox: Any, rewriting: Any, draft: Any, source: str) -> None:
    model = rewriting.packed(draft.model(layer(toolbox, draft, STAYS[source](draft, draft["x"]))))
    result = rewriting.apply(model, NarrowLevelsPass())
    assert result.changes == 0
    (declined,) = result.declined
    assert declined.layer == "layer/Binarize"
    assert "stays ternary" in declined.reason
    assert "--sign-zero one" in declined.reason
    if source != "an input":
        producer = toolbox.node(model, "layer/Binarize").inputs[0].producer()
        assert f"{producer.op_type} {producer.name} can be negative" in declined.reason


def test_a_deep_graph_of_shortcuts(draft: Any) -> None:
    """Each tensor is looked at once: the number of paths doubles with every shortcut."""
    value = relu(draft, draft["x"])
    for _ in range(2000):
        value = draft.op("Add", value, value)
    assert never_negative(value)
    assert not never_negative(draft.op("Add", value, draft["x"]))
    assert not never_negative(None)
