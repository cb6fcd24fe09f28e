"""Function bodies put in place of our nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from bnn_deploy.errors import InputRefused
from bnn_deploy.runners.onnxruntime import OnnxRuntimeRunner
from bnn_deploy.tensorrt.inline import inline_functions


@pytest.mark.parametrize("name", ["Assorted", "Fused", "Repeated", "Stemmed"])
def test_it_computes_the_same_of_standard_ops_alone(deployed: Callable[..., Any], name: str) -> None:
    given = deployed(name)
    before = given.proto()
    after = inline_functions(before)
    assert before == given.proto(), "what is given stays as it is"
    assert {node.domain for node in after.graph.node} == {""} and not after.functions
    assert not [node for node in after.graph.node for attribute in node.attribute if attribute.ref_attr_name]
    with OnnxRuntimeRunner(before, optimise=False) as one, OnnxRuntimeRunner(after, optimise=False) as other:
        expected, found = one.infer(given.feeds), other.infer(given.feeds)
    for key, array in expected.items():
        np.testing.assert_array_equal(found[key], array)


def test_nodes_are_named_after_their_layer(deployed: Callable[..., Any]) -> None:
    given = deployed("Repeated").proto()
    layers = {node.name for node in given.graph.node}
    names = [node.name for node in inline_functions(given).graph.node]
    assert len(set(names)) == len(names)
    assert {name.rsplit("/", 1)[0] for name in names} <= layers
    assert {"conv/Conv", "conv#2/Conv", "mine/Conv"} <= set(names)


def test_float_layers_are_plain_ones(deployed: Callable[..., Any]) -> None:
    """With the strides, pads and kernels of the nodes in place of references to them."""
    given = deployed("Stemmed").proto()
    assert {"StemConv2dMaxPool", "AveragePool2d", "AveragePoolConv2d"} <= {node.op_type for node in given.graph.node}
    others = {node.op_type for node in given.graph.node if node.op_type.startswith("Pack")}
    after = {node.name: node for node in inline_functions(given, plugin_ops=others).graph.node}
    floats = {
        name: {entry.name: list(entry.ints) for entry in node.attribute}
        for name, node in after.items()
        if node.op_type in ("Conv", "MaxPool", "AveragePool")
    }
    two = {"kernel_shape": [2, 2], "strides": [2, 2]}
    assert floats == {
        "stem/Conv": {"strides": [2, 2], "pads": [3, 3, 3, 3]},
        "stem/MaxPool": {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
        "shortcut/AveragePool": two,
        "shortcut/Conv": {},
        "pool/AveragePool#2": two,
    }


def test_what_a_plugin_serves_stays_a_node(deployed: Callable[..., Any]) -> None:
    given = deployed("Assorted").proto()
    count = sum(node.op_type == "PackedConv2d" for node in given.graph.node)
    after = inline_functions(given, plugin_ops={"PackedConv2d", "SomethingElse"})
    assert [node.op_type for node in after.graph.node if node.domain] == ["PackedConv2d"] * count and count
    assert not after.functions


def test_an_op_with_neither_body_nor_plugin_is_named() -> None:
    x, y = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy")
    node = helper.make_node("PackBipolar", ["x"], ["y"], domain="bnn_deploy", name="layer1.0/Binarize")
    given = helper.make_model(helper.make_graph([node], "bare", [x], [y]))
    with pytest.raises(InputRefused, match=r"layer1.0/Binarize \(PackBipolar\): the file has no function body"):
        inline_functions(given)
