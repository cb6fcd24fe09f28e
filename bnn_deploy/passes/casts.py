"""The other type of a tensor, where a graph has float32 and float16 side by side: one cast for all who want it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bnn_deploy import opset
from bnn_deploy.passes.float16 import is_float16, rounded
from bnn_deploy.passes.graph import add_initializer, exact_value, remove_unread


class Casts:
    """Tensors of a model, in float32 and in float16."""

    def __init__(self, model: ir.Model) -> None:
        self._model = model
        outputs = dict.fromkeys(model.graph.outputs)  # one may be returned twice
        self._outputs = [value for value in outputs if value.dtype == ir.DataType.FLOAT]
        self._made: dict[ir.Value, ir.Value] = {}  # a tensor -> the same in the other type
        self._constant_nodes: set[ir.Node] = set()

    def is_constant_node(self, node: ir.Node) -> bool:
        """Whether `node` has nothing but constants to read. Asked of every node, in order."""
        given = [value for value in node.inputs if value is not None]
        if node.op_type == "Constant" or (given and all(self._is_constant(value) for value in given)):
            self._constant_nodes.add(node)
        return node in self._constant_nodes

    def constant(self, value: ir.Value | None) -> NDArray[np.float64] | None:
        """The exact value of a constant; None of any other tensor."""
        return exact_value(value) if value is not None and self._is_constant(value) else None

    def narrow(self, node: ir.Node, index: int) -> None:
        """Lets input `index` of `node` be float16."""
        value = node.inputs[index]
        if value is None or is_float16(value):
            return
        exact = self.constant(value)
        if exact is None:
            node.replace_input_with(index, self._cast(value, ir.DataType.FLOAT16, before=node))
            return
        if value not in self._made:
            self._made[value] = add_initializer(self._model, f"{value.name}.{opset.FP16}", rounded(exact))
        node.replace_input_with(index, self._made[value])
        remove_unread(value)

    def widen_all(self, node: ir.Node) -> None:
        """Lets every float input of `node` be float32, and all that its subgraphs take from outside."""
        for reader in (node, *_inner_nodes(node)):
            for index, value in enumerate(reader.inputs):
                if value is not None and is_float16(value) and not self._is_constant(value):
                    reader.replace_input_with(index, self._cast(value, ir.DataType.FLOAT, before=node))

    def has_subgraphs(self, node: ir.Node) -> bool:
        """Whether it is an If, a Loop, a Scan."""
        return bool(_subgraphs(node))

    def restore_outputs(self) -> int:
        """Gives the network its float32 outputs back, under their names; how many casts that took."""
        changes = 0
        for value in self._outputs:
            if not is_float16(value):
                continue
            name, producer = value.name, value.producer()
            value.name = f"{name}.{opset.FP16}"
            wide = self._made.get(value)
            if wide is None and producer is not None and producer.graph is not None:
                cast = cast_node(value, ir.DataType.FLOAT, f"{name}/cast")
                producer.graph.insert_after(producer, cast)
                wide = cast.outputs[0]
            if wide is None:
                continue
            wide.name = name
            outputs = self._model.graph.outputs
            for index, output in enumerate(outputs):
                if output is value:
                    outputs[index] = wide
            changes += 1
        return changes

    def _is_constant(self, value: ir.Value) -> bool:
        return value.is_initializer() or value.producer() in self._constant_nodes

    def _cast(self, value: ir.Value, dtype: ir.DataType, before: ir.Node) -> ir.Value:
        if value not in self._made:
            label = opset.FP16 if dtype == ir.DataType.FLOAT16 else opset.FP32
            cast = cast_node(value, dtype, f"{value.name}/{label}")
            cast.outputs[0].name = f"{value.name}.{label}"
            self._model.graph.insert_before(before, cast)
            self._made[value] = cast.outputs[0]
        return self._made[value]


def cast_node(value: ir.Value, dtype: ir.DataType, name: str) -> ir.Node:
    """A `Cast` of `value`, in no graph yet; its output has no name."""
    cast = ir.node("Cast", [value], {"to": int(dtype)}, name=name)
    cast.outputs[0].type, cast.outputs[0].shape = ir.TensorType(dtype), value.shape
    return cast


def _inner_nodes(node: ir.Node) -> list[ir.Node]:
    """The nodes of its subgraphs, and of theirs."""
    return [inner for graph in _subgraphs(node) for inner in ir.traversal.RecursiveGraphIterator(graph)]


def _subgraphs(node: ir.Node) -> list[Any]:
    graphs: list[Any] = []
    for entry in node.attributes.values():
        if entry.type == ir.AttributeType.GRAPH:
            graphs.append(entry.value)
        elif entry.type == ir.AttributeType.GRAPHS:
            graphs.extend(entry.value)
    return graphs
