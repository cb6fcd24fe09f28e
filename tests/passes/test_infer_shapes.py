"""Every tensor has the shape that follows from the inputs."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bnn_deploy import nn
from bnn_deploy.export.capture import capture
from bnn_deploy.passes import run_passes
from bnn_deploy.passes.infer_shapes import InferShapesPass

FLOAT = ir.TensorType(ir.DataType.FLOAT)


def forget(draft: Any) -> None:
    """What the older exporter writes: nothing for standard ops, sizes of its own invention for ours."""
    for node in draft.nodes:
        for value in node.outputs:
            rank = len(value.shape) if value.shape is not None else 0
            value.shape = ir.Shape([f"{value.name}_dim_{axis}" for axis in range(rank)]) if node.domain else None
            value.type = FLOAT if node.domain else None


def infer(model: ir.Model) -> int:
    changes = InferShapesPass()(model).changes
    assert InferShapesPass()(model).changes == 0
    return int(changes)


@settings(max_examples=40)
@given(
    *(st.tuples(st.integers(1, 3), st.integers(1, 3)) for _ in range(3)),
    st.tuples(*[st.integers(0, 2)] * 4),
    st.sampled_from([1, 2]),
)
def test_convolution(
    toolbox: Any, kernel: Any, strides: Any, dilations: Any, pads: tuple[int, ...], group: int
) -> None:
    draft = toolbox.Draft(x=["batch", 4, 9, 8])
    y = draft.conv(
        draft.binarize(draft["x"]),
        toolbox.weights(6, 4 // group, *kernel),
        strides=list(strides),
        dilations=list(dilations),
        pads=list(pads),
        group=group,
        shape=["?", 6, 1, 1],
    )
    end = draft.op("Relu", y)
    forget(draft)
    model = draft.model(end)
    infer(model)
    (expected,) = toolbox.evaluate(model, x=np.zeros((2, 4, 9, 8), np.float32))
    for value in (y, end):
        assert list(value.shape) == ["batch", *expected.shape[1:]]
        assert value.type == FLOAT


def test_standard_ops_between_ours(toolbox: Any) -> None:
    draft = toolbox.Draft(x=["batch", 4, 8, 8])
    stem = draft.op(
        "Conv", draft["x"], draft.constant("stem", toolbox.weights(6, 4, 3, 3)), pads=[1, 1, 1, 1], strides=[2, 2]
    )
    binarized = draft.binarize(stem, "a", shape=["?"] * 4)
    y = draft.conv(binarized, toolbox.weights(6, 6, 1, 1), "a", shape=["?"] * 4)
    y = draft.op("Add", draft.batch_norm(y, toolbox.norm(6)), stem)
    y = draft.op("AveragePool", y, kernel_shape=[2, 2], strides=[2, 2])
    y = draft.op("Concat", y, y, axis=1)
    flat = draft.op("Reshape", y, draft.constant("to", np.array([-1, 48])))
    end = draft.linear(draft.binarize(flat, "fc", shape=["?"] * 2), toolbox.weights(5, 48), "fc", shape=["?"] * 2)
    forget(draft)
    model = draft.model(end)
    assert infer(model) == len(model.graph)
    shapes = [list(node.outputs[0].shape) for node in model.graph]
    assert shapes[:5] == [["batch", 6, 4, 4]] * 5
    assert shapes[5:7] == [["batch", 6, 2, 2], ["batch", 12, 2, 2]]
    assert [shape[1:] for shape in shapes[7:]] == [[48], [48], [5]]


def test_rows_of_a_fully_connected_layer(toolbox: Any) -> None:
    draft = toolbox.Draft(x=["batch", 7, 40])
    end = draft.linear(draft.binarize(draft["x"]), toolbox.weights(5, 40), shape=["?"] * 3)
    forget(draft)
    infer(draft.model(end))
    assert list(end.shape) == ["batch", 7, 5]


def test_sizes_that_do_not_follow_keep_their_names(toolbox: Any) -> None:
    """A free size behind a stride is an expression, which the exporter knows and a sum of integers does not."""
    draft = toolbox.Draft(x=["batch", 4, "height", "width"])
    shape = ["batch", 6, "(height - 1)//2 + 1", "(width - 1)//2 + 1"]
    y = draft.conv(draft.binarize(draft["x"]), toolbox.weights(6, 4, 3, 3), strides=[2, 2], pads=[1] * 4, shape=shape)
    assert infer(draft.model(y)) == 0
    assert list(y.shape) == shape


def test_what_nobody_can_tell_stays_unknown(toolbox: Any) -> None:
    draft = toolbox.Draft(x=["batch", 4, 3, 3])
    strange = draft.op("Strange", draft["x"])
    behind = draft.op("Relu", strange)
    y = draft.conv(draft.binarize(behind, shape=None), toolbox.weights(6, 4, 3, 3))
    draft.nodes[0].outputs[0].type = behind.type = None
    model = draft.model(y)
    assert infer(model) == 0
    assert all(node.outputs[0].shape is None for node in model.graph)


@pytest.mark.filterwarnings("ignore")
def test_both_exporters_lead_to_the_same_kernels() -> None:
    block = nn.BinaryResNetBlock(6, 6, layer_order="bn_conv_relu", relu=False)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3, padding=1), block).eval()
    kernels = []
    for exporter in ("dynamo", "legacy"):
        captured = capture(model, [torch.zeros(1, 3, 8, 8)], exporter=exporter)
        run_passes(captured)
        kernels.append(Counter(node.op_type for node in captured.graph))
    assert kernels[0] == kernels[1]
    assert kernels[0]["PackedConv2dAdd"] == 2
