"""Second copies of layers that let a harness see what the layers themselves do not write.

The *accumulator twin* is a plain layer of the same bits and weights with scale 1 and bias 0. The *wide twin* of a layer
on float16 that also writes bits is the same layer on float32: its y is what the bits were decided on.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bnn_deploy import opset
from bnn_deploy.functions import function_body


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """Tensor -> its element type, where the file says it."""
    graph = model.graph
    known = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input, *graph.output)}
    return {name: element for name, element in known.items() if element}


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """Name -> value."""
    return {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}


def layer_names(node: onnx.NodeProto) -> list[str]:
    """Of the layers that a node was merged from, in the order of their outputs."""
    metadata = {entry.key: entry.value for entry in node.metadata_props}
    return metadata.get(opset.LAYER_NAMES, node.name).split(",")


def rounds_behind_bits(node: onnx.NodeProto) -> bool:
    """Whether it writes bits, and beside them the float16 of what they were decided on."""
    epilogue = opset.EPILOGUES.get(opset.float32_op(node.op_type))
    return node.op_type in opset.FLOAT16_OPS.values() and epilogue is not None and epilogue.packs


def wide_name(node: onnx.NodeProto) -> str:
    """What the wide twin of `node` writes: [N, O, H', W'] float32."""
    return f"{node.output[0]}.wide"


def accumulator_name(node: onnx.NodeProto) -> str:
    """What the accumulator twin of `node` writes."""
    return f"{node.output[0]}.accumulator"


def add_wide_twin(model: onnx.ModelProto, node: onnx.NodeProto) -> None:
    """Adds the same layer on float32, directly behind it."""
    outputs = [wide_name(node), f"{wide_name(node)}.bits"]
    _add_twin(model, node, opset.float32_op(node.op_type), list(node.input), outputs, attributes_of(node))


def add_accumulator_twin(model: onnx.ModelProto, node: onnx.NodeProto) -> str:
    """Adds a plain layer of the same bits and weights, directly behind it; its output is the accumulator."""
    weights = next(tensor for tensor in model.graph.initializer if tensor.name == node.input[1])
    outputs = weights.dims[0]
    constants = {
        f"parity.ones.{outputs}": np.ones(outputs, np.float32),
        f"parity.zeros.{outputs}": np.zeros(outputs, np.float32),
    }
    there = {tensor.name for tensor in model.graph.initializer}
    for name, array in constants.items():
        if name not in there:
            model.graph.initializer.append(numpy_helper.from_array(array, name))
    op_type = opset.float32_op(node.op_type)
    if op_type in opset.EPILOGUES or op_type == opset.PACKED_CONV2D_BITS:
        op_type = opset.PACKED_CONV2D
    elif op_type == opset.PACKED_LINEAR_BITS:
        op_type = opset.PACKED_LINEAR
    attributes = {name: value for name, value in attributes_of(node).items() if not name.startswith("clip_")}
    _add_twin(model, node, op_type, [*node.input[:2], *constants], [accumulator_name(node)], attributes)
    return accumulator_name(node)


def _add_twin(
    model: onnx.ModelProto,
    node: onnx.NodeProto,
    op_type: str,
    inputs: list[str],
    outputs: list[str],
    attributes: dict[str, Any],
) -> None:
    """Adds a float32 op behind `node`, with casts for what is float16, and its function body if the file has none."""
    types = element_types(model)
    behind = list(model.graph.node).index(node) + 1  # so that the graph stays in topological order
    for index, name in enumerate(inputs):
        if types.get(name) == TensorProto.FLOAT16:
            inputs[index] = f"{outputs[0]}.{index}"
            for node_ahead in _widening_nodes(name, inputs[index]):
                model.graph.node.insert(behind, node_ahead)
                behind += 1
    twin = helper.make_node(op_type, inputs, outputs, name=outputs[0], domain=opset.DOMAIN, **attributes)
    model.graph.node.insert(behind, twin)
    if op_type not in {function.name for function in model.functions}:
        model.functions.append(function_body(op_type))


def _widening_nodes(name: str, wide: str) -> list[onnx.NodeProto]:
    """The values of a float16 tensor in float32. The reshape keeps a runtime from reading what it would round to it."""
    return [
        helper.make_node("Shape", [name], [f"{wide}.shape"], name=f"{wide}.shape"),
        helper.make_node("Reshape", [name, f"{wide}.shape"], [f"{wide}.values"], name=f"{wide}.values"),
        helper.make_node("Cast", [f"{wide}.values"], [wide], name=wide, to=TensorProto.FLOAT),
    ]
