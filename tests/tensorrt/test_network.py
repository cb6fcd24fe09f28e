"""TensorRT's parser takes the function body of every deploy op, and says what it cannot take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bnn_deploy import opset
from bnn_deploy.errors import CheckFailed, InputRefused
from bnn_deploy.functions import function_body
from bnn_deploy.tensorrt import network
from bnn_deploy.tensorrt.network import parse, plugin_nodes

OPS = (*opset.PACK_OPS.values(), *opset.WEIGHT_OPS, opset.PACK_INTERVAL, opset.PACKED_MAX_POOL2D)
CHANNELS, OUTPUTS, IMAGE = 70, 34, (9, 8)
WORDS, OUTPUT_WORDS = 3, 2
# In and out: 9 rows, 3 taps, stride 2, padded by 1 and 0; 8 columns, 3 taps 2 apart, padded by 1 and 2.
OUTPUT_IMAGE = (4, 7)
ATTRIBUTES: dict[str, Any] = {
    "channels": CHANNELS,
    "strides": [2, 1],
    "pads": [1, 1, 0, 2],
    "dilations": [1, 2],
    "group": 1,
    "pad_value": -1.0,
    "low": 0.0,
    "clip_low": 0.0,
    "clip_high": 6.0,
    "kernel_shape": [3, 5],  # as wide as three taps, two apart
}
OPERANDS = {
    "threshold": np.zeros(1, np.float32),
    "flip": np.ones(WORDS, np.int32),
    "lower_int": np.zeros(OUTPUTS, np.int32),
    "upper_int": np.ones(OUTPUTS, np.int32),
    **{name: np.ones(OUTPUTS, np.float32) for name in ("scale", "bias", "slope", "shift")},
}


def constants(op_type: str) -> dict[str, Any]:
    body, linear = function_body(op_type), "Linear" in op_type
    packs_input = op_type == opset.PACK_INTERVAL
    weight = np.full((OUTPUTS, WORDS) if linear else (OUTPUTS, 3, 3, WORDS), -5, np.int32)
    bounds = {name: np.ones(1 if packs_input else OUTPUTS, np.float32) for name in ("lower", "upper")}
    known = {**OPERANDS, **bounds, "weight": weight}
    return {name: known[name] for name in body.input if name in known}


def shapes(op_type: str, batch: int | str) -> dict[str, tuple[int, Sequence[int | str]]]:
    """Name of each input and output -> element type, shape."""
    linear = "Linear" in op_type
    real = TensorProto.FLOAT16 if op_type.endswith(opset.FLOAT16_SUFFIX) else TensorProto.FLOAT
    planes = 2 if "Ternary" in op_type else 1
    before, after = ((), ()) if linear else (IMAGE, OUTPUT_IMAGE)
    after = IMAGE if op_type in (*opset.PACK_OPS.values(), opset.PACK_INTERVAL) else after
    words = OUTPUT_WORDS if op_type in opset.WEIGHT_OPS else planes * WORDS
    image = (real, [batch, CHANNELS, *before])
    return {
        **dict.fromkeys(("x", "image", "real"), image),
        "residual": (real, [batch, OUTPUTS, *after]),
        "y": (real, [batch, OUTPUTS, *after]),
        "packed": (TensorProto.INT32, [batch, *before, planes * WORDS]),
        "bits": (TensorProto.INT32, [batch, *after, words]),
        "written": (TensorProto.INT32, [batch, *after, words]),
    }


def one_op(op_type: str, batch: int | str) -> onnx.ModelProto:
    body, initializers, known = function_body(op_type), constants(op_type), shapes(op_type, batch)
    outputs = ["written" if name in body.input or name == "packed" else name for name in body.output]
    attributes = {name: ATTRIBUTES[name] for name in body.attribute}
    node = helper.make_node(op_type, list(body.input), outputs, domain=opset.DOMAIN, name="one.layer", **attributes)
    graph = helper.make_graph(
        [node],
        "one op",
        [helper.make_tensor_value_info(name, *known[name]) for name in body.input if name not in initializers],
        [helper.make_tensor_value_info(name, *known[name]) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in initializers.items()],
    )
    imports = [helper.make_opsetid("", opset.ONNX_OPSET), helper.make_opsetid(opset.DOMAIN, opset.VERSION)]
    return helper.make_model(graph, opset_imports=imports, ir_version=opset.ONNX_IR_VERSION, functions=[body])


@pytest.mark.parametrize("batch", [2, "batch"])
@pytest.mark.parametrize("op_type", OPS)
def test_the_body_of_every_op_is_taken(op_type: str, batch: int | str) -> None:
    """With strides, dilations and paddings that differ from each other and from the defaults."""
    given = one_op(op_type, batch)
    onnx.checker.check_model(given, full_check=True)
    parsed = parse(given).network
    assert parsed.num_layers > len(function_body(op_type).node) / 4
    found = [list(parsed.get_output(index).shape) for index in range(parsed.num_outputs)]
    wanted = [[axis.dim_value or -1 for axis in value.type.tensor_type.shape.dim] for value in given.graph.output]
    assert found == wanted


def test_a_node_that_it_cannot_take_is_named() -> None:
    """Why bodies have no bitwise op."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.INT32, [1, 4]) for name in "xy")
    nodes = [
        helper.make_node("BitwiseAnd", ["x", "x"], ["a"], name="layer3/mask"),
        helper.make_node("BitwiseAnd", ["a", "x"], ["y"], name="second"),
    ]
    given = helper.make_model(helper.make_graph(nodes, "masks", [x], [y]), opset_imports=[helper.make_opsetid("", 20)])
    with pytest.raises(InputRefused) as refused:
        parse(given)
    assert refused.value.where == "layer3/mask (BitwiseAnd)"
    assert "TensorRT-RTX" in refused.value.found and "UNSUPPORTED_NODE" in refused.value.found
    assert "and 1 more" in refused.value.found


def test_what_is_no_fault_of_a_node() -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.STRING, [1]) for name in "xy")
    node = helper.make_node("Identity", ["x"], ["y"], name="same")
    with pytest.raises(InputRefused, match=r"TensorRT-RTX .* cannot take it"):
        parse(helper.make_model(helper.make_graph([node], "strings", [x], [y])))


def test_a_shape_that_it_reads_otherwise_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body left as a function: the parser does not see its strides and dilations, and says nothing."""
    monkeypatch.setattr(network, "inline_functions", lambda model, plugin_ops: model)
    with pytest.raises(CheckFailed, match=r"y has the shape \[2, 34, 8, 9\] to it, and \[2, 34, 4, 7\] in the file"):
        parse(one_op("BinaryWeightConv2d", 2))  # no plugin serves that, whatever another test has loaded


@pytest.mark.parametrize("op_type", [opset.PACKED_CONV2D, opset.PACK_INTERVAL])
def test_what_the_plugin_serves_becomes_a_plugin_layer(op_type: str, plugin: Path) -> None:
    parsed = parse(one_op(op_type, "batch"), plugin)
    (node,) = plugin_nodes(parsed.model)
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    assert (attributes["plugin_version"], attributes["plugin_namespace"]) == (b"1", b"")
    layers = [parsed.network.get_layer(index) for index in range(parsed.network.num_layers)]
    assert [layer.name for layer in layers if layer.type.name == "PLUGIN_V3"] == ["one.layer"]


def test_what_it_does_not_serve_becomes_its_function_body(plugin: Path) -> None:
    assert not plugin_nodes(parse(one_op("BinaryWeightConv2d", "batch"), plugin).model)


@pytest.mark.parametrize(
    ("layers", "found"), [([("one.layer", "CONVOLUTION")], "CONVOLUTION"), ([], "no layer of that name")]
)
def test_a_silent_fallback_is_a_failure(
    layers: list[tuple[str, str]], found: str, plugin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some versions would take a function body where there is a plugin."""
    kinds = [SimpleNamespace(name=name, type=SimpleNamespace(name=kind)) for name, kind in layers]
    fallen = SimpleNamespace(num_layers=len(kinds), get_layer=kinds.__getitem__)
    real = network._check_plugin_layers
    monkeypatch.setattr(network, "_check_plugin_layers", lambda sdk, _, model: real(sdk, fallen, model))
    with pytest.raises(CheckFailed, match=rf"one\.layer \(PackedConv2d\): TensorRT-RTX \S+ made {found} of it, and"):
        parse(one_op(opset.PACKED_CONV2D, 2), plugin)


def test_what_the_plugin_does_not_take_is_in_its_own_words(plugin: Path) -> None:
    given = one_op(opset.PACKED_CONV2D, 2)
    given.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 7
    del given.graph.value_info[:]
    with pytest.raises(InputRefused) as refused:
        parse(given, plugin)
    assert refused.value.where == "one.layer (PackedConv2d)"
    assert refused.value.found.startswith("the plugin does not take it: PackedConv2d: ")
