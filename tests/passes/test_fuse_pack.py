"""A packed convolution writes the bits of its output beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from bnn_deploy.passes.absorb_threshold import AbsorbThresholdPass
from bnn_deploy.passes.fuse_epilogue import FuseEpiloguePass
from bnn_deploy.passes.fuse_pack import FusePackPass

CHANNELS = 35
IMAGE = ["batch", CHANNELS, 4, 4]


@pytest.fixture
def draft(toolbox: Any) -> Any:
    return toolbox.Draft(x=IMAGE)


def conv(toolbox: Any, draft: Any, x: ir.Value, name: str, levels: str = "bipolar", **more: Any) -> ir.Value:
    attributes = {"shape": IMAGE, "pads": [1, 1, 1, 1], **more}
    return draft.conv(draft.binarize(x, name, levels), toolbox.weights(CHANNELS, CHANNELS, 3, 3), name, **attributes)


def fused(toolbox: Any, rewriting: Any, model: ir.Model, packs: int = 1, **feeds: Any) -> None:
    expected = rewriting.outputs(model, **feeds)
    result = rewriting.apply(model, FusePackPass())
    assert (result.changes, result.declined) == (packs, ())
    for found, wanted in zip(rewriting.outputs(model, **feeds), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("levels", ["bipolar", "unipolar"])
def test_bits_and_float_of_one_convolution(toolbox: Any, rewriting: Any, draft: Any, levels: str) -> None:
    first = conv(toolbox, draft, draft["x"], "a")
    model = rewriting.packed(draft.model(conv(toolbox, draft, first, "b", levels), first))
    bits = toolbox.node(model, "b/Binarize").outputs[0]
    model.graph.outputs.append(bits)
    name, shape = bits.name, bits.shape
    fused(toolbox, rewriting, model, x=toolbox.adversarial((7, CHANNELS, 4, 4)))
    node = toolbox.node(model, "a")
    assert toolbox.op_types(model) == ["PackBipolar", "PackedConv2dPack", "PackedConv2d"]
    assert [value.name for value in node.outputs] == [first.name, name]
    assert node.outputs[1].shape == shape
    assert node.outputs[1].dtype == ir.DataType.INT32
    assert node.metadata_props["bnn_deploy.pack"] == "b/Binarize"
    assert toolbox.array(node.inputs[4]).shape == (CHANNELS,)


def test_a_block_with_its_shortcut(toolbox: Any, rewriting: Any, draft: Any) -> None:
    """y is read by the next binarisation and the next shortcut; the pack has absorbed a BatchNorm."""
    y = draft.op("Add", conv(toolbox, draft, draft["x"], "a"), draft["x"], shape=IMAGE)
    norm = draft.batch_norm(y, toolbox.norm(CHANNELS), shape=IMAGE)
    y = draft.op("Add", conv(toolbox, draft, norm, "b"), y, shape=IMAGE)
    model = rewriting.packed(draft.model(y))
    AbsorbThresholdPass()(model)
    FuseEpiloguePass()(model)
    bounds = list(toolbox.node(model, "b/Binarize").inputs[1:])
    fused(toolbox, rewriting, model, x=toolbox.adversarial((7, CHANNELS, 4, 4), finite=True))
    assert toolbox.op_types(model) == ["PackBipolar", "PackedConv2dAddPack", "PackedConv2dAdd"]
    assert list(toolbox.node(model, "a").inputs[5:]) == bounds


@pytest.mark.parametrize("kind", ["Relu", "PRelu"])
def test_with_an_activation(toolbox: Any, rewriting: Any, draft: Any, kind: str) -> None:
    y = conv(toolbox, draft, draft["x"], "a")
    operands = [draft.constant("slope", np.float32([0.25]))] if kind == "PRelu" else []
    y = draft.op(kind, y, *operands, shape=IMAGE)
    model = rewriting.packed(draft.model(y, conv(toolbox, draft, y, "b")))
    FuseEpiloguePass()(model)
    fused(toolbox, rewriting, model, x=toolbox.adversarial((1, CHANNELS, 4, 4), finite=True))
    assert toolbox.node(model, "a").op_type == {"Relu": "PackedConv2dClipPack", "PRelu": "PackedConv2dPReluPack"}[kind]


def test_one_bound_for_all_channels_is_written_out(toolbox: Any, rewriting: Any, draft: Any) -> None:
    model = rewriting.packed(draft.model(conv(toolbox, draft, conv(toolbox, draft, draft["x"], "a"), "b")))
    pack = toolbox.node(model, "b/Binarize")
    graph = model.graph
    ends = [
        ir.Value(name=name, const_value=ir.tensor(np.float32([end]), name=name)) for name, end in (("l", -2), ("u", 3))
    ]
    for value in ends:
        value.shape, value.type = ir.Shape([1]), ir.TensorType(ir.DataType.FLOAT)
        graph.register_initializer(value)
    wide = ir.node("PackInterval", [pack.inputs[0], *ends], {"channels": CHANNELS}, domain="bnn_deploy", name=pack.name)
    ir.convenience.replace_nodes_and_values(graph, pack, [pack], [wide], pack.outputs, wide.outputs)
    graph.initializers.pop("b/Binarize.threshold")
    fused(toolbox, rewriting, model, x=toolbox.adversarial((1, CHANNELS, 4, 4)))
    assert [toolbox.array(value).tolist() for value in toolbox.node(model, "a").inputs[4:]] == [[-2] * 35, [3] * 35]


def test_of_two_packs_the_second_stays(toolbox: Any, rewriting: Any, draft: Any) -> None:
    y = conv(toolbox, draft, draft["x"], "a")
    shifted = draft.op("Add", y, draft.constant("c", np.float32([0.5])), shape=IMAGE)
    model = rewriting.packed(draft.model(conv(toolbox, draft, y, "b"), conv(toolbox, draft, shifted, "c")))
    AbsorbThresholdPass()(model)
    fused(toolbox, rewriting, model, x=toolbox.adversarial((1, CHANNELS, 4, 4)))
    assert toolbox.node(model, "c/Binarize").inputs[0] is toolbox.node(model, "a").outputs[0]


class TestStays:
    def untouched(self, rewriting: Any, model: ir.Model) -> None:
        result = rewriting.apply(rewriting.packed(model), FusePackPass())
        assert (result.changes, result.declined) == (0, ())

    def test_behind_something_else(self, toolbox: Any, rewriting: Any, draft: Any) -> None:
        y = draft.op("Neg", conv(toolbox, draft, draft["x"], "a"), shape=IMAGE)
        self.untouched(rewriting, draft.model(conv(toolbox, draft, y, "b")))

    def test_ternary_bits_or_a_ternary_convolution(self, toolbox: Any, rewriting: Any, draft: Any) -> None:
        first = conv(toolbox, draft, draft["x"], "a", "ternary")
        self.untouched(rewriting, draft.model(conv(toolbox, draft, conv(toolbox, draft, first, "b"), "c", "ternary")))
