"""A max-pool moves behind the binarisation: OR, or AND where the comparison is turned round."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bnn_deploy.passes.absorb_threshold import AbsorbThresholdPass
from bnn_deploy.passes.pack_pool import PackPoolPass

CHANNELS = 35
BOTH_SIGNS = np.where(np.arange(CHANNELS) % 3 == 0, -1, 1).astype(np.float32).reshape(CHANNELS, 1, 1)


def size(pixels: int, kernel: int, stride: int, pads: int) -> int:
    return (pixels + pads - kernel) // stride + 1


def pool(
    draft: Any, x: ir.Value, kernel: Any = (2, 2), strides: Any = (2, 2), pads: Any = (0, 0, 0, 0), **more: Any
) -> Any:
    height = size(x.shape[2], kernel[0], strides[0], pads[0] + pads[2])
    width = size(x.shape[3], kernel[1], strides[1], pads[1] + pads[3])
    attributes = {"kernel_shape": list(kernel), "strides": list(strides), "pads": list(pads), **more}
    return draft.op("MaxPool", x, shape=["batch", CHANNELS, height, width], node="pool", **attributes)


def turned(draft: Any, x: ir.Value) -> ir.Value:
    """A factor of ±1, which turns the comparison round where it is negative, and a shift."""
    y = draft.op("Mul", x, draft.constant("factor", BOTH_SIGNS), shape=x.shape)
    return draft.op("Add", y, draft.constant("shift", [0.25]), shape=x.shape)


def finish(toolbox: Any, rewriting: Any, draft: Any, value: ir.Value, levels: str = "bipolar") -> ir.Model:
    """Binarises and convolves; the bits are an output too. What can be absorbed is."""
    shape = ["batch", 3, *value.shape[2:]]
    y = draft.conv(draft.binarize(value, "layer", levels), toolbox.weights(3, CHANNELS, 1, 1), "layer", shape=shape)
    model = rewriting.packed(draft.model(y))
    model.graph.outputs.append(toolbox.node(model, "layer/Binarize").outputs[0])
    AbsorbThresholdPass()(model)
    return model


def same_bits(rewriting: Any, model: ir.Model, x: NDArray[np.float32], changes: int = 1) -> None:
    before = rewriting.outputs(model, x=x)
    result = rewriting.apply(model, PackPoolPass())
    assert (result.changes, result.declined) == (changes, ())
    for found, expected in zip(rewriting.outputs(model, x=x), before, strict=True):
        np.testing.assert_array_equal(found, expected)


@settings(max_examples=25)
@given(st.data())
def test_or_and_and(toolbox: Any, rewriting: Any, data: st.DataObject) -> None:
    kernel = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3)), "kernel")
    strides = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3)), "strides")
    top, bottom = (data.draw(st.integers(0, kernel[0] - 1), name) for name in ("top", "bottom"))
    left, right = (data.draw(st.integers(0, kernel[1] - 1), name) for name in ("left", "right"))
    height = data.draw(st.integers(max(1, kernel[0] - top - bottom), 7), "height")
    width = data.draw(st.integers(max(1, kernel[1] - left - right), 7), "width")
    draft = toolbox.Draft(x=["batch", CHANNELS, height, width])
    pooled = pool(draft, draft["x"], kernel, strides, (top, left, bottom, right))
    model = finish(
        toolbox, rewriting, draft, turned(draft, pooled), data.draw(st.sampled_from(["bipolar", "unipolar"]))
    )
    x = toolbox.adversarial((data.draw(st.sampled_from([1, 7]), "batch"), CHANNELS, height, width), finite=True)
    x[:, :, : height // 2] = np.float32(-0.25)  # a tie
    same_bits(rewriting, model, x)
    flip = toolbox.array(toolbox.node(model, "pool").inputs[1])
    np.testing.assert_array_equal(toolbox.bits_of(flip, CHANNELS), BOTH_SIGNS[:, 0, 0] < 0)


def test_infinities_and_equal_channels(toolbox: Any, rewriting: Any) -> None:
    draft = toolbox.Draft(x=["batch", CHANNELS, 4, 4])
    model = finish(toolbox, rewriting, draft, turned(draft, pool(draft, draft["x"], (3, 3), pads=(1, 1, 1, 1))))
    x = np.random.default_rng(0).choice(np.float32([np.inf, -np.inf, -0.25, 0.25]), (7, CHANNELS, 4, 4))
    x[:4] = np.float32([-np.inf, np.inf, -1, 1])[:, None, None, None]
    same_bits(rewriting, model, x)


def test_gamma_of_zero_is_no_obstacle(toolbox: Any, rewriting: Any) -> None:
    """A channel that is always, or never, true for a number is so for the greatest of several."""
    draft = toolbox.Draft(x=["batch", CHANNELS, 4, 4])
    gamma, beta, mean, variance = (array.copy() for array in toolbox.norm(CHANNELS))
    gamma[:6], beta[:6] = 0, [1, -1, 0, 3, -0.5, 2]
    pooled = pool(draft, draft["x"])
    norm = draft.batch_norm(pooled, (gamma, beta, mean, variance), shape=pooled.shape)
    model = finish(toolbox, rewriting, draft, norm)
    assert toolbox.op_types(model)[:2] == ["MaxPool", "PackInterval"]
    same_bits(rewriting, model, toolbox.adversarial((7, CHANNELS, 4, 4), finite=True))


def test_nodes_keep_their_names_and_attributes(toolbox: Any, rewriting: Any) -> None:
    draft = toolbox.Draft(x=["batch", CHANNELS, 5, 4])
    model = finish(toolbox, rewriting, draft, pool(draft, draft["x"], (3, 2), (2, 1), (1, 0, 1, 0)))
    rewriting.apply(model, PackPoolPass())
    pack, moved, _ = list(model.graph)
    assert [(node.name, node.op_type) for node in (pack, moved)] == [
        ("layer/Binarize", "PackBipolar"),
        ("pool", "PackedMaxPool2d"),
    ]
    assert moved.attributes.pop("channels").as_int() == CHANNELS
    assert {name: list(value.value) for name, value in moved.attributes.items()} == {
        "kernel_shape": [3, 2],
        "strides": [2, 1],
        "pads": [1, 0, 1, 0],
    }
    assert list(pack.outputs[0].shape) == ["batch", 5, 4, 2]


def test_default_strides_and_pads(toolbox: Any, rewriting: Any) -> None:
    draft = toolbox.Draft(x=["batch", CHANNELS, 4, 4])
    pooled = draft.op("MaxPool", draft["x"], kernel_shape=[2, 2], shape=["batch", CHANNELS, 3, 3])
    same_bits(
        rewriting, finish(toolbox, rewriting, draft, pooled), toolbox.adversarial((1, CHANNELS, 4, 4), finite=True)
    )


def test_what_it_then_stands_behind_is_absorbed_and_pools_above_follow(toolbox: Any, rewriting: Any) -> None:
    """bn, pool, relu, pool, bn, sign: nothing of it stays in float."""
    draft = toolbox.Draft(x=["batch", CHANNELS, 8, 8])
    shape = draft["x"].shape
    y = draft.batch_norm(draft["x"], toolbox.norm(CHANNELS, 1), "bn1", shape=shape)
    y = pool(draft, y)
    y = draft.op("Relu", y, shape=y.shape)
    y = draft.op("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2], shape=["batch", CHANNELS, 2, 2], node="pool2")
    y = draft.batch_norm(y, toolbox.norm(CHANNELS, 2), "bn2", shape=y.shape)
    model = finish(toolbox, rewriting, draft, y)
    same_bits(rewriting, model, toolbox.adversarial((7, CHANNELS, 8, 8), finite=True), changes=4)
    assert toolbox.op_types(model) == ["PackInterval", "PackedMaxPool2d", "PackedMaxPool2d", "PackedConv2d"]


class TestDeclines:
    @pytest.fixture
    def draft(self, toolbox: Any) -> Any:
        return toolbox.Draft(x=["batch", CHANNELS, 4, 4], y=["batch", CHANNELS, 4])

    def reason(self, rewriting: Any, model: ir.Model) -> str:
        result = rewriting.apply(model, PackPoolPass())
        assert result.changes == 0
        (declined,) = result.declined
        assert declined.layer == "layer/Binarize"
        assert "MaxPool pool stays float: " in declined.reason
        return declined.reason

    def test_someone_reads_the_pooled_values(self, toolbox: Any, rewriting: Any, draft: Any) -> None:
        pooled = pool(draft, draft["x"])
        model = finish(toolbox, rewriting, draft, pooled)
        model.graph.outputs.append(pooled)
        assert "needed in float elsewhere" in self.reason(rewriting, model)

    def test_someone_reads_what_is_pooled(self, toolbox: Any, rewriting: Any, draft: Any) -> None:
        value = draft.op("Neg", draft["x"], shape=draft["x"].shape)
        model = finish(toolbox, rewriting, draft, pool(draft, value))
        model.graph.outputs.append(value)
        assert "needed in float elsewhere" in self.reason(rewriting, model)

    def test_someone_reads_where_the_maxima_are(self, toolbox: Any, rewriting: Any, draft: Any) -> None:
        node = pool(draft, draft["x"]).producer()
        node.resize_outputs(2)
        where = node.outputs[1]
        where.name, where.type, where.shape = "where", ir.TensorType(ir.DataType.INT64), node.outputs[0].shape
        draft.op("Cast", where, to=ir.DataType.FLOAT, node="reader", shape=where.shape)
        shape = ["batch", 3, 2, 2]
        y = draft.conv(
            draft.binarize(node.outputs[0], "layer"), toolbox.weights(3, CHANNELS, 1, 1), "layer", shape=shape
        )
        model = rewriting.packed(draft.model(y, draft.nodes[1].outputs[0]))
        assert "needed in float elsewhere" in self.reason(rewriting, model)

    @pytest.mark.parametrize(
        ("attributes", "message"),
        [
            ({"ceil_mode": 1}, "ceil_mode"),
            ({"dilations": [2, 1], "kernel_shape": [2, 1], "strides": [1, 4]}, "dilations"),
            ({"auto_pad": "SAME_UPPER"}, "auto_pad"),
        ],
    )
    def test_forms_without_an_equivalent(
        self, toolbox: Any, rewriting: Any, draft: Any, attributes: dict[str, Any], message: str
    ) -> None:
        pooled = draft.op(
            "MaxPool",
            draft["x"],
            node="pool",
            shape=["batch", CHANNELS, 2, 2] if "dilations" not in attributes else ["batch", CHANNELS, 2, 1],
            **{"kernel_shape": [2, 2], "strides": [2, 2], **attributes},
        )
        assert message in self.reason(rewriting, finish(toolbox, rewriting, draft, pooled))

    def test_two_bounds(self, toolbox: Any, rewriting: Any, draft: Any) -> None:
        model = finish(toolbox, rewriting, draft, turned(draft, pool(draft, draft["x"])))
        upper = toolbox.node(model, "layer/Binarize").inputs[2]
        ends = toolbox.array(upper).copy()
        ends[1] = 100
        upper.const_value = ir.tensor(ends, name=upper.name)
        assert "two bounds" in self.reason(rewriting, model)
