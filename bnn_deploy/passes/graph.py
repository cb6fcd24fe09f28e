"""Small questions that passes ask of a graph, and small edits that they make to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from bnn_deploy import opset

_EXACT = "bnn_deploy.float64"


def nodes_of(model: ir.Model, *op_types: str, domain: str = opset.DOMAIN) -> Iterator[ir.Node]:
    """The nodes of the given types, in graph order. The graph may be edited while iterating."""
    for node in list(model.graph):
        if node.graph is not None and node.domain == domain and node.op_type in op_types:
            yield node


def is_op(node: ir.Node | None, *op_types: str, domain: str = opset.DOMAIN) -> bool:
    """Whether `node` exists and is one of these ops."""
    return node is not None and node.domain == domain and node.op_type in op_types


def attribute(node: ir.Node, name: str, default: Any = None) -> Any:
    """The Python value of an attribute: int, float, str, or a list of them."""
    found = node.attributes.get(name)
    if found is None:
        return default
    value = found.value
    return list(value) if isinstance(value, tuple) else value


def constant(value: ir.Value | None) -> NDArray[Any] | None:
    """The value of a tensor that does not depend on the inputs, or None.

    Follows the graph back through any ops (a published weight of shape (N, 1) is reshaped in forward), so it also sees
    what no initializer holds.
    """
    if value is None:
        return None
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is not None:
        return tensor.numpy()
    node = value.producer()
    if node is None or node.domain not in ("", "ai.onnx") or len(node.outputs) != 1:
        return None
    feeds = {}
    for operand in node.inputs:
        if operand is None:
            continue
        array = constant(operand)
        if array is None or operand.name is None:
            return None
        feeds[operand.name] = array
    if not feeds:
        return None
    version = node.graph.opset_imports.get("", opset.ONNX_OPSET) if node.graph is not None else opset.ONNX_OPSET
    evaluator = ReferenceEvaluator(ir.serde.serialize_node(node), opsets={"": version})
    results = cast(list[Any], evaluator.run(None, feeds))
    return np.asarray(results[0])


def only_consumer(value: ir.Value) -> ir.Node | None:
    """The one node that reads `value`, or None where there are several, none, or the graph returns it."""
    users = list(value.uses())
    return users[0].node if len(users) == 1 and not value.is_graph_output() else None


def add_initializer(model: ir.Model, name: str, array: NDArray[Any]) -> ir.Value:
    """Registers `array` under a free name that begins with `name`."""
    free, suffix = name, 1
    while free in model.graph.initializers:
        suffix += 1
        free = f"{name}.{suffix}"
    tensor = ir.tensor(np.asarray(array, order="C"), name=free)  # np.ascontiguousarray makes a scalar a vector
    value = ir.Value(name=free, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor)
    model.graph.register_initializer(value)
    return value


def add_rounded(model: ir.Model, name: str, exact: NDArray[np.float64]) -> ir.Value:
    """Registers a float32 initializer that remembers the float64 it was rounded from.

    Passes fold one after another into the same scale and bias. Each reads the float64 (`exact_value`), so the number in
    the file is rounded once, whatever was folded into it.
    """
    value = add_initializer(model, name, exact.astype(np.float32))
    value.meta[_EXACT] = exact
    return value


def exact_value(value: ir.Value | None) -> NDArray[np.float64]:
    """The float64 behind an initializer made by `add_rounded`; of any other constant, its value in float64."""
    if value is None:
        raise ValueError("a required operand is missing")
    kept = value.meta.get(_EXACT)
    if kept is not None:
        return kept
    array = constant(value)
    if array is None:
        raise ValueError(f"{value.name} is not constant")
    return array.astype(np.float64)


def replace(old: ir.Node, new: Sequence[ir.Node], output: ir.Value) -> None:
    """Puts `new` where `old` stands; `output` takes the place, name, type and shape of old's first output.

    An `output` that has a shape keeps its own.
    """
    original = old.outputs[0]
    output.name, output.type = original.name, original.type
    original.shape = output.shape = original.shape if output.shape is None else output.shape
    graph = old.graph
    if graph is None:
        raise ValueError(f"{old.name} belongs to no graph")
    ir.convenience.replace_nodes_and_values(graph, old, [old], list(new), [original], [output])


def remove_unread(*values: ir.Value | None) -> None:
    """Removes those of `values` that nobody reads, with what makes them and whatever only that read.

    A pass that has rewritten a node calls it on what the node read. What is dead would go away at the end of the
    pipeline anyway, but until then `only_consumer` would count it as a reader.
    """
    pending = [value for value in values if value is not None]
    while pending:
        value = pending.pop()
        node = value.producer()
        if value.uses() or value.is_graph_output() or value.is_graph_input():
            continue
        if node is None:
            if value.is_initializer() and value.graph is not None and value.name is not None:
                value.graph.initializers.pop(value.name, None)
        elif node.graph is not None and not any(output.uses() or output.is_graph_output() for output in node.outputs):
            pending.extend(operand for operand in node.inputs if operand is not None)
            node.graph.remove(node, safe=True)
