"""Fills in the shapes that an exporter left out; PyTorch's older one writes them for our ops alone.

The passes that fuse ask for shapes: whether an addition is a shortcut or a broadcast, for one. ONNX's own inference
does not know our ops, and stops at the first.

    Binarize:      the shape of x
    BinaryConv2d:  [N, O, H', W'],  H' = floor((H + top + bottom - dilation * (KH - 1) - 1) / stride) + 1
    BinaryLinear:  [..., O]
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import onnx_ir as ir

from bnn_deploy import opset
from bnn_deploy.passes.base import Pass, PassResult
from bnn_deploy.passes.graph import attribute, is_op

_Size = int | ir.SymbolicDim


class InferShapesPass(Pass):
    """Gives every tensor the shape that follows from the inputs' shapes; what is known already stays."""

    def call(self, model: ir.Model) -> PassResult:
        changes = 0
        for node in model.graph:
            known = [(value.shape, value.type) for value in node.outputs]
            if is_op(node, *opset.TRAINING_OPS):
                _infer_ours(node)
            elif node.domain == "" and any(value.shape is None for value in node.outputs):
                _infer_standard(node, model.graph.opset_imports)
            changes += known != [(value.shape, value.type) for value in node.outputs]
        return self.done(model, changes)


def _infer_ours(node: ir.Node) -> None:
    """A size that does not follow from x keeps the exporter's name."""
    x, y = node.inputs[0], node.outputs[0]
    if x is None or x.shape is None:
        return
    sizes = list(x.shape)
    weight = node.inputs[1].shape if len(node.inputs) > 1 and node.inputs[1] is not None else None
    if node.op_type == opset.BINARY_CONV2D and weight is not None:
        sizes = [sizes[0], weight[0], *_convolved(node, sizes[2:], weight[2:])]
    elif node.op_type == opset.BINARY_LINEAR and weight is not None:
        sizes = [*sizes[:-1], weight[0]]
    elif node.op_type != opset.BINARIZE:
        return
    named = list(y.shape) if y.shape is not None and len(y.shape) == len(sizes) else sizes
    y.shape = ir.Shape([size if _is_known(size) else name for size, name in zip(sizes, named, strict=True)])
    y.type = y.type or x.type


def _convolved(node: ir.Node, pixels: Sequence[_Size], kernel: Sequence[_Size]) -> list[_Size]:
    pads, strides, dilations = (attribute(node, name) for name in ("pads", "strides", "dilations"))
    sizes: list[_Size] = []
    for axis, (size, taps) in enumerate(zip(pixels, kernel, strict=True)):
        if isinstance(size, int) and isinstance(taps, int):
            reach = size + pads[axis] + pads[axis + 2] - dilations[axis] * (taps - 1) - 1
            sizes.append(reach // strides[axis] + 1)
        else:
            sizes.append(ir.SymbolicDim(None))
    return sizes


def _is_known(size: _Size) -> bool:
    return isinstance(size, int) or size.value is not None


def _infer_standard(node: ir.Node, opset_imports: dict[str, int]) -> None:
    """Asks ONNX, which answers nothing where it cannot tell."""
    types, data = {}, {}
    for value in node.inputs:
        if value is None or value.name is None:
            continue
        tensor = ir.convenience.get_const_tensor(value)
        if tensor is not None:
            types[value.name] = onnx.helper.make_tensor_type_proto(tensor.dtype.value, list(tensor.shape.numpy()))
            data[value.name] = ir.serde.serialize_tensor(tensor)
        elif value.type is not None:
            types[value.name] = ir.serde.serialize_value(value).type
        else:
            return
    try:
        schema = onnx.defs.get_schema(node.op_type, opset_imports.get("", opset.ONNX_OPSET))
        found = onnx.shape_inference.infer_node_outputs(
            schema,
            ir.serde.serialize_node(node),
            types,
            data,
            opset_imports=[onnx.helper.make_opsetid(*pair) for pair in opset_imports.items()],
        )
    except (onnx.defs.SchemaError, onnx.shape_inference.InferenceError):
        return
    for value in node.outputs:
        inferred = found.get(value.name or "")
        if value.shape is None and inferred is not None:
            value.type = value.type or ir.serde.deserialize_type_proto_for_type(inferred)
            value.shape = ir.serde.deserialize_type_proto_for_shape(inferred)
