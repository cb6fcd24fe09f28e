"""A part of a model as a model of its own: any of its nodes, what they read and do not make being inputs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import helper


def extract(
    model: onnx.ModelProto,
    chosen: Collection[int],
    values: Mapping[str, NDArray[Any]],
    *,
    outputs: Collection[str] | None = None,
) -> onnx.ModelProto:
    """The model of some nodes.

    Args:
        model: In topological order; it is left as it is.
        chosen: Indices of nodes. They need not be connected: each that a node reads and none of them makes is an input.
        values: An array for every tensor that crosses the border; its dtype and rank are declared, its sizes stay open.
        outputs: The tensors to yield; None for all that something outside reads, or nothing at all.

    Returns:
        A model with the initializers and the function bodies that its nodes use.
    """
    nodes = [model.graph.node[index] for index in sorted(chosen)]
    made = {name for node in nodes for name in node.output if name}
    read = {name for node in nodes for name in node.input if name}
    constants = [tensor for tensor in model.graph.initializer if tensor.name in read]
    inputs = sorted(read - made - {tensor.name for tensor in constants}, key=_order_of_reading(nodes))
    if outputs is None:
        outputs = border(model, chosen)
    graph = helper.make_graph(
        nodes,
        model.graph.name or "part",
        [_declared(name, values[name]) for name in inputs],
        [_declared(name, values[name]) for name in outputs],
        initializer=constants,
    )
    return helper.make_model(
        graph,
        ir_version=model.ir_version,
        opset_imports=model.opset_import,
        functions=_functions_of(model, nodes),
        producer_name=model.producer_name,
    )


def border(model: onnx.ModelProto, chosen: Collection[int]) -> list[str]:
    """What some nodes make for others: what a node outside reads, and what the model puts out.

    A node of whose outputs nobody at all reads one, a leaf, counts as made for others too.
    """
    inside: set[str] = set()
    outside = {value.name for value in model.graph.output}
    for index, node in enumerate(model.graph.node):
        (inside if index in chosen else outside).update(node.input)
    names: list[str] = []
    for index in sorted(chosen):
        made = [name for name in model.graph.node[index].output if name]
        leaf = not any(name in outside or name in inside for name in made)
        names += [name for name in made if leaf or name in outside]
    return names


def isolated(model: onnx.ModelProto, values: Mapping[str, NDArray[Any]]) -> onnx.ModelProto:
    """Every node by itself, in one model: what another one makes is an input, named by `given`."""
    apart = onnx.ModelProto()
    apart.CopyFrom(model)
    made = {name for node in model.graph.node for name in node.output if name}
    there: set[str] = set()
    for node in apart.graph.node:
        for index, name in enumerate(node.input):
            if name in made:
                node.input[index] = given(name)
                there.add(name)
    apart.graph.input.extend(_declared(name, values[name], shown=given(name)) for name in sorted(there))
    del apart.graph.output[:]
    apart.graph.output.extend(
        _declared(name, values[name]) for node in model.graph.node for name in node.output if name
    )
    return apart


def given(name: str) -> str:
    """The input of an `isolated` model that stands for a tensor."""
    return f"{name}.given"


def _order_of_reading(nodes: list[onnx.NodeProto]) -> Any:
    places: dict[str, int] = {}
    for node in nodes:
        for name in node.input:
            places.setdefault(name, len(places))
    return places.__getitem__


def _declared(name: str, array: NDArray[Any], *, shown: str = "") -> onnx.ValueInfoProto:
    dtype = helper.np_dtype_to_tensor_dtype(array.dtype)
    return helper.make_tensor_value_info(shown or name, dtype, [None] * array.ndim)


def _functions_of(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> list[onnx.FunctionProto]:
    """The bodies of the ops in use, and of the ops in those."""
    bodies = {(function.domain, function.name): function for function in model.functions}
    wanted: dict[tuple[str, str], onnx.FunctionProto] = {}
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        key = (node.domain, node.op_type)
        if key in bodies and key not in wanted:
            wanted[key] = bodies[key]
            waiting.extend(bodies[key].node)
    return [wanted[key] for key in sorted(wanted)]
