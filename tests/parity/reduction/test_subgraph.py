from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from bnn_deploy.parity.reduction.subgraph import border, extract, given, isolated
from bnn_deploy.runners.onnxruntime import OnnxRuntimeRunner

Deployed = Callable[..., Any]
NETWORKS = ("Residual", "Fused", "Ternary", "Assorted", "TwoInputs")


def every_tensor(model: onnx.ModelProto, feeds: dict[str, Any]) -> dict[str, Any]:
    seen = onnx.ModelProto()
    seen.CopyFrom(model)
    there = {value.name for value in seen.graph.output}
    names = [name for node in seen.graph.node for name in node.output if name and name not in there]
    seen.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    return {**feeds, **OnnxRuntimeRunner(seen, threads=1).infer(feeds)}


@pytest.mark.parametrize("network", NETWORKS)
def test_any_part_computes_what_the_whole_does(network: str, deployed: Deployed) -> None:
    given_file = deployed(network)
    model = given_file.proto()
    values, count = every_tensor(model, given_file.feeds), len(model.graph.node)
    parts = [{index} for index in range(count)]
    parts += [set(range(first, min(first + 3, count))) for first in range(count)]
    parts += [set(range(0, count, 2)), set(range(count))]
    for chosen in parts:
        part = extract(model, chosen, values)
        onnx.checker.check_model(part)
        found = OnnxRuntimeRunner(part, threads=1).infer({value.name: values[value.name] for value in part.graph.input})
        assert list(found) == border(model, chosen)
        for name, array in found.items():
            np.testing.assert_array_equal(array, values[name])


def test_a_part_has_its_function_bodies_and_no_others(deployed: Deployed) -> None:
    model = deployed("Residual").proto()
    values = every_tensor(model, deployed("Residual").feeds)
    for index, node in enumerate(model.graph.node):
        part = extract(model, [index], values)
        assert [function.name for function in part.functions] == ([node.op_type] if node.domain else [])
        assert {tensor.name for tensor in part.graph.initializer} <= set(node.input)
        assert list(part.opset_import) == list(model.opset_import)


def test_a_body_within_a_body_comes_along() -> None:
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]
    inner = helper.make_function("own", "Inner", ["a"], ["b"], [helper.make_node("Neg", ["a"], ["b"])], opsets)
    calls = [helper.make_node("Inner", ["a"], ["b"], domain="own")]
    outer = helper.make_function("own", "Outer", ["a"], ["b"], calls, opsets)
    value = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Outer", ["x"], ["y"], domain="own")], "g", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=opsets, functions=[inner, outer], ir_version=9)
    x = np.array([1, -2], np.float32)
    part = extract(model, [0], {"x": x, "y": x})
    np.testing.assert_array_equal(OnnxRuntimeRunner(part).infer({"x": x})["y"], -x)


def test_outputs_that_are_asked_for(deployed: Deployed) -> None:
    model, feeds = deployed("Residual").proto(), deployed("Residual").feeds
    values = every_tensor(model, feeds)
    everything = range(len(model.graph.node))
    assert border(model, everything) == [value.name for value in model.graph.output]
    inner = model.graph.node[2].output[0]
    assert [value.name for value in extract(model, everything, values, outputs=[inner]).graph.output] == [inner]


@pytest.mark.parametrize("network", NETWORKS)
def test_apart_no_node_hears_of_another(network: str, deployed: Deployed) -> None:
    """Given the tensors of the whole every node makes its own; given zeros, each sees those and nothing else."""
    given_file = deployed(network)
    model = given_file.proto()
    values = every_tensor(model, given_file.feeds)
    apart = isolated(model, values)
    made = {name for node in model.graph.node for name in node.output}
    runner = OnnxRuntimeRunner(apart, threads=1)
    assert len(apart.graph.node) == len(model.graph.node)
    assert not {name for node in apart.graph.node for name in node.input} & made
    feeds = {name: values[name.removesuffix(given(""))] for name in runner.inputs}
    for name, array in runner.infer(feeds).items():
        np.testing.assert_array_equal(array, values[name])
