"""Convolutions of the same bits that are joined along the channels become one."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from bnn_deploy.passes.fuse_epilogue import FuseEpiloguePass
from bnn_deploy.passes.merge_twins import MergeTwinsPass

CHANNELS = 35
IMAGE = ["batch", CHANNELS, 4, 4]
JOINED = ["batch", 2 * CHANNELS, 4, 4]


@pytest.fixture
def draft(toolbox: Any) -> Any:
    return toolbox.Draft(x=IMAGE)


def twins(toolbox: Any, draft: Any, *changes: dict[str, Any], kernel: int = 1) -> list[ir.Value]:
    """Convolutions of one binarisation; one dict of other attributes for each."""
    binarized = draft.binarize(draft["x"], "block")
    made = []
    for index, more in enumerate(changes or ({}, {}), 1):
        attributes = {"shape": IMAGE, "bias": np.linspace(-index, index, CHANNELS, dtype=np.float32), **more}
        groups, size = attributes.get("group", 1), attributes.pop("kernel", (kernel, kernel))
        weight = toolbox.weights(CHANNELS, CHANNELS // groups, *size, seed=index)
        made.append(draft.conv(binarized, weight, f"c{index}", **attributes))
    return made


def join(draft: Any, values: list[ir.Value], axis: int = 1) -> ir.Value:
    shape = ["batch", sum(value.shape[1] for value in values), *values[0].shape[2:]]
    return draft.op("Concat", *values, axis=axis, shape=shape, node="join")


def merged(toolbox: Any, rewriting: Any, model: ir.Model, changes: int = 1, **apply: Any) -> list[str]:
    """The op types afterwards."""
    x = toolbox.adversarial((7, *IMAGE[1:]), finite=True)
    expected = rewriting.outputs(model, x=x)
    assert rewriting.apply(model, MergeTwinsPass()).changes == changes
    for found, wanted in zip(rewriting.outputs(model, x=x), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    return toolbox.op_types(model)


@pytest.mark.parametrize("axis", [1, -3])
@pytest.mark.parametrize("count", [2, 3])
def test_one_convolution_with_all_outputs(toolbox: Any, rewriting: Any, draft: Any, count: int, axis: int) -> None:
    model = rewriting.packed(draft.model(join(draft, twins(toolbox, draft, *[{}] * count), axis)))
    assert merged(toolbox, rewriting, model) == ["PackBipolar", "PackedConv2d"]
    (node,) = [node for node in model.graph if node.op_type == "PackedConv2d"]
    names = [f"c{index}" for index in range(1, count + 1)]
    assert node.name == "+".join(names)
    assert node.metadata_props["bnn_deploy.layers"] == ",".join(names)
    assert [toolbox.array(value).shape for value in node.inputs[1:]] == [
        (count * CHANNELS, 1, 1, 2),
        *[(count * CHANNELS,)] * 2,
    ]


def test_the_float64_behind_scale_and_bias_is_kept(toolbox: Any, rewriting: Any, draft: Any) -> None:
    model = rewriting.packed(draft.model(join(draft, twins(toolbox, draft))))
    exact = [toolbox.node(model, name).inputs[2].meta["bnn_deploy.float64"] for name in ("c1", "c2")]
    merged(toolbox, rewriting, model)
    scale = toolbox.node(model, "c1+c2").inputs[2]
    assert scale.meta["bnn_deploy.float64"].tolist() == np.concatenate(exact).tolist()


@pytest.mark.parametrize("activation", ["", "Relu", "PRelu"])
@pytest.mark.parametrize("shortcut", [False, True])
def test_with_epilogues(toolbox: Any, rewriting: Any, draft: Any, shortcut: bool, activation: str) -> None:
    ends = []
    for index, y in enumerate(twins(toolbox, draft)):
        if shortcut:
            y = draft.op("Add", y, draft["x"] if index else draft.op("Abs", draft["x"], shape=IMAGE), shape=IMAGE)
        if activation:
            slope = np.linspace(index, 1, CHANNELS, dtype=np.float32).reshape(CHANNELS, 1, 1)
            operands = [draft.constant(f"slope{index}", slope)] if activation == "PRelu" else []
            y = draft.op(activation, y, *operands, shape=IMAGE)
        ends.append(y)
    model = rewriting.packed(draft.model(join(draft, ends)))
    FuseEpiloguePass()(model)
    fused = "PackedConv2d" + ("Add" if shortcut else "") + {"Relu": "Clip"}.get(activation, activation)
    assert sorted(merged(toolbox, rewriting, model)) == sorted(
        ["PackBipolar", fused, *(["Abs", "Concat"] if shortcut else [])]
    )


def test_what_follows_can_then_be_fused(toolbox: Any, rewriting: Any, draft: Any) -> None:
    """ReActNet: two convolutions with shortcuts, joined, then a shifted PReLU over all channels."""
    ends = [draft.op("Add", y, draft["x"], shape=IMAGE) for y in twins(toolbox, draft)]
    y = draft.op("PRelu", join(draft, ends), draft.constant("slope", np.float32([0.25])), shape=JOINED)
    model = rewriting.packed(draft.model(y))
    FuseEpiloguePass()(model)
    merged(toolbox, rewriting, model)
    FuseEpiloguePass()(model)
    assert toolbox.op_types(model) == ["PackBipolar", "Concat", "PackedConv2dAddPRelu"]


def test_merging_again(toolbox: Any, rewriting: Any, draft: Any) -> None:
    """The parts of a merged node are the layers, not what they were merged into before."""
    first, second, third = twins(toolbox, draft, *[{}] * 3)
    inner = draft.op("Concat", first, second, axis=1, shape=JOINED)
    model = rewriting.packed(draft.model(join(draft, [inner, third])))
    MergeTwinsPass()(model)
    node = toolbox.node(model, "c1+c2+c3")
    assert node.metadata_props["bnn_deploy.layers"] == "c1,c2,c3"


DIFFERENT = {
    "groups": [{"group": 5}, {"group": 5}],
    "padding": [
        {"kernel": (3, 3), "pads": [1, 1, 1, 1], "pad_value": 1.0},
        {"kernel": (3, 3), "pads": [1, 1, 1, 1], "pad_value": -1.0},
    ],
    # With a stride of 2, kernels of 1 and 2 pixels see a 4x4 image 2x2 times.
    "kernels": [
        {"kernel": (1, 1), "strides": [2, 2], "shape": ["batch", CHANNELS, 2, 2]},
        {"kernel": (2, 2), "strides": [2, 2], "shape": ["batch", CHANNELS, 2, 2]},
    ],
}


class TestStays:
    def untouched(self, rewriting: Any, model: ir.Model) -> None:
        result = rewriting.apply(rewriting.packed(model), MergeTwinsPass())
        assert (result.changes, result.declined) == (0, ())

    @pytest.mark.parametrize("what", DIFFERENT)
    def test_layers_that_differ(self, toolbox: Any, rewriting: Any, draft: Any, what: str) -> None:
        self.untouched(rewriting, draft.model(join(draft, twins(toolbox, draft, *DIFFERENT[what]))))

    def test_another_axis(self, toolbox: Any, rewriting: Any, draft: Any) -> None:
        values = twins(toolbox, draft)
        y = draft.op("Concat", *values, axis=2, shape=["batch", CHANNELS, 8, 4])
        self.untouched(rewriting, draft.model(y))

    def test_other_bits(self, toolbox: Any, rewriting: Any) -> None:
        draft = toolbox.Draft(x=IMAGE, y=IMAGE)
        ends = [
            draft.conv(draft.binarize(draft[name], name), toolbox.weights(CHANNELS, CHANNELS, 1, 1), name, shape=IMAGE)
            for name in "xy"
        ]
        self.untouched(rewriting, draft.model(join(draft, ends)))

    def test_one_layer_twice(self, toolbox: Any, rewriting: Any, draft: Any) -> None:
        (y,) = twins(toolbox, draft, {})
        self.untouched(rewriting, draft.model(join(draft, [y, y])))

    def test_a_layer_that_is_read_elsewhere(self, toolbox: Any, rewriting: Any, draft: Any) -> None:
        values = twins(toolbox, draft)
        self.untouched(rewriting, draft.model(join(draft, values), draft.op("Relu", values[1], shape=IMAGE)))

    def test_a_layer_that_is_an_output(self, toolbox: Any, rewriting: Any, draft: Any) -> None:
        values = twins(toolbox, draft)
        self.untouched(rewriting, draft.model(join(draft, values), values[0]))

    def test_something_that_is_no_convolution(self, toolbox: Any, rewriting: Any, draft: Any) -> None:
        (y,) = twins(toolbox, draft, {})
        self.untouched(rewriting, draft.model(join(draft, [y, draft["x"]])))

    def test_one_tensor_alone(self, toolbox: Any, rewriting: Any, draft: Any) -> None:
        self.untouched(rewriting, draft.model(join(draft, twins(toolbox, draft, {}))))
