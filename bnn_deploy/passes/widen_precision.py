r"""What `lower_precision` made float16 becomes float32 again, for comparison only.

    Conv(x16, w16)  ->  Conv(x, w16 in float32)          PackedConv2dAddFp16(...)  ->  PackedConv2dAdd(...)

Constants keep the values that float16 left them, and casts between the two types go. Inputs and outputs of the network
keep their types, with a `Cast` where one is float16. So what remains is the network in float32, as a runtime wants it
that has no float16 arithmetic, or makes a better float16 network of float32 itself.

Only a file that says it is float16, in its metadata or by a layer, is changed: any other float16 is the model's own.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bnn_deploy import opset
from bnn_deploy.passes.base import Pass, PassResult
from bnn_deploy.passes.casts import cast_node
from bnn_deploy.passes.float16 import is_float, is_float16
from bnn_deploy.passes.graph import attribute, is_op, nodes_of

_TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype")  # by which an operator is told the type of its output
_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16)


class WidenPrecisionPass(Pass):
    """Converts a file of float16 to float32. Casts that it leaves nothing to do are `Identity` afterwards."""

    def call(self, model: ir.Model) -> PassResult:
        layers = list(nodes_of(model, *opset.FLOAT16_OPS.values()))
        if model.metadata_props.get(opset.PRECISION) != opset.FP16 and not layers:
            return self.done(model, 0)
        model.metadata_props.pop(opset.PRECISION, None)
        for layer in layers:
            layer.op_type = opset.float32_op(layer.op_type)
        graph = model.graph
        outputs = [value for value in dict.fromkeys(graph.outputs) if is_float16(value)]
        changes = sum(_widen_node(node) for node in graph.all_nodes())
        for inner in (graph, *graph.subgraphs()):
            for value in inner.initializers.values():
                _widen_initializer(value)
        for value in graph.inputs:
            if is_float16(value):
                _widen_input(graph, value)
        for value in outputs:
            if not value.is_graph_input():
                _restore_output(graph, value)
        return self.done(model, 1 + changes)


def _widen_node(node: ir.Node) -> bool:
    """Widens what the node makes and the constants in its attributes; whether there was anything to widen."""
    changed = any(is_float16(value) for value in node.outputs)
    if is_op(node, "Cast", domain="") and is_float(node.inputs[0]) and attribute(node, "to") in _FLOATS:
        node.op_type, changed = "Identity", True
        node.attributes.clear()
    for name, entry in list(node.attributes.items()):
        if entry.type == ir.AttributeType.INT and name in _TYPE_ATTRIBUTES and entry.value == ir.DataType.FLOAT16:
            node.attributes[name] = ir.AttrInt64(name, int(ir.DataType.FLOAT))
        elif entry.type == ir.AttributeType.TENSOR and entry.value.dtype == ir.DataType.FLOAT16:
            node.attributes[name] = ir.AttrTensor(name, ir.tensor(entry.value.numpy().astype(np.float32)))
    for value in node.outputs:
        if is_float16(value):
            value.type = ir.TensorType(ir.DataType.FLOAT)  # a new one: tensors may share theirs
    return changed


def _widen_initializer(value: ir.Value) -> None:
    if is_float16(value) and value.const_value is not None and not value.is_graph_input():
        value.const_value = ir.tensor(value.const_value.numpy().astype(np.float32), name=value.name)
        value.type = ir.TensorType(ir.DataType.FLOAT)


def _widen_input(graph: ir.Graph, value: ir.Value) -> None:
    """Lets all who read a float16 input read it in float32."""
    readers = list(value.uses())
    if not readers:
        return
    cast = cast_node(value, ir.DataType.FLOAT, f"{value.name}/{opset.FP32}")
    cast.outputs[0].name = f"{value.name}.{opset.FP32}"
    graph.insert_before(graph[0], cast)
    for reader, index in readers:
        reader.replace_input_with(index, cast.outputs[0])


def _restore_output(graph: ir.Graph, value: ir.Value) -> None:
    """Gives the network its float16 output back, under its name."""
    name = value.name
    value.name = f"{name}.{opset.FP32}"
    cast = cast_node(value, ir.DataType.FLOAT16, f"{name}/{opset.FP16}")
    cast.outputs[0].name = name
    graph.append(cast)
    for index, output in enumerate(graph.outputs):
        if output is value:
            graph.outputs[index] = cast.outputs[0]
