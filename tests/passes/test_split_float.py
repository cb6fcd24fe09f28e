"""The ops on floats become the nodes again that they were made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from bnn_deploy import opset
from bnn_deploy.passes.split_float import SplitFloatPass


def attributes(node: ir.Node) -> dict[str, list[int]]:
    return {name: list(entry.value) for name, entry in node.attributes.items()}


def test_the_standard_nodes(toolbox: Any, deployed: Callable[..., Any]) -> None:
    model = ir.from_proto(deployed("Stemmed").proto())
    assert SplitFloatPass()(model).modified
    assert not {node.op_type for node in model.graph} & set(opset.FLOAT_OPS)
    assert not {name for _, name, _ in model.functions} & set(opset.FLOAT_OPS)
    nodes = {node.name: node for node in model.graph if node.domain == "" and node.op_type not in ("Reshape", "Gemm")}
    window = {"kernel_shape": [2, 2], "strides": [2, 2]}
    assert {name: (node.op_type, attributes(node)) for name, node in nodes.items()} == {
        "stem": ("Conv", {"strides": [2, 2], "pads": [3, 3, 3, 3]}),
        "stem/MaxPool": ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
        "shortcut/AveragePool": ("AveragePool", window),
        "shortcut": ("Conv", {}),
        "pool/AveragePool#2": ("AveragePool", window),
    }
    again = SplitFloatPass()(model)
    assert not again.modified


def test_a_bias_of_0_was_none(toolbox: Any, deployed: Callable[..., Any]) -> None:
    """That of the stem came from its BatchNorm, and stays."""
    given = deployed("Stemmed").proto()
    model = ir.from_proto(given)
    assert len(toolbox.node(model, "shortcut").inputs) == 3
    SplitFloatPass()(model)
    assert [len(toolbox.node(model, name).inputs) for name in ("stem", "shortcut")] == [3, 2]
    assert all(value.uses() for value in model.graph.initializers.values())


def test_it_computes_the_same(toolbox: Any, deployed: Callable[..., Any]) -> None:
    given = deployed("Stemmed")
    model = ir.from_proto(given.proto())
    SplitFloatPass()(model)
    expected = toolbox.run_in_onnxruntime(given.proto(), given.feeds)
    for found, wanted in zip(toolbox.run_in_onnxruntime(model, given.feeds), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
