"""The nodes of a graph: which of them have work to do, what they read and what they write.

A node is a *kernel* when it has work to do for each image:

- it reads something that was computed from the values of an input. What follows from sizes alone (`Shape` and all
  behind it) or from constants is worked out once, or costs nothing;
- and it is none of `VIEWS`, which give the same bytes another name or shape.

Bytes of activations are those of all tensors that kernels write. Both are what the file says: a runtime may fuse
further, and one without kernels of ours runs an op of ours as the several nodes of its function body.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import onnx

from bnn_deploy import opset
from bnn_deploy.inspection.results import GraphTotals, NodeRow
from bnn_deploy.inspection.sizes import Sizes, tensor_sizes

VIEWS = ("Identity", "Dropout", "Reshape", "Flatten", "Squeeze", "Unsqueeze")
SIZES_ONLY = ("Shape", "Size")
FLOAT_LAYERS = ("Conv", "Gemm", "MatMul")
POOLED_FLOAT_LAYERS = (opset.STEM_CONV2D_MAX_POOL, opset.AVERAGE_POOL_CONV2D)
BINARY_WEIGHT_OPS = (opset.BINARY_WEIGHT_CONV2D, opset.BINARY_WEIGHT_LINEAR)


def graph_totals(model: onnx.ModelProto) -> GraphTotals:
    """What the nodes of `model` add up to."""
    return GraphTotals.of(node_rows(model, tensor_sizes(model)))


def node_rows(model: onnx.ModelProto, sizes: Sizes) -> tuple[NodeRow, ...]:
    """A row for each node, in the order of the file, which is an order of execution."""
    constants = {tensor.name: _constant_bytes(tensor) for tensor in model.graph.initializer}
    computed = {value.name for value in model.graph.input if value.name not in constants}
    rows = []
    for node in model.graph.node:
        has_data = node.op_type not in SIZES_ONLY and not computed.isdisjoint(node.input)
        if has_data:
            computed.update(node.output)
        kernel = has_data and not (is_standard(node) and node.op_type in VIEWS)
        rows.append(_row(node, kernel, constants, sizes))
    return tuple(rows)


def is_standard(node: onnx.NodeProto) -> bool:
    """Whether its op is one of ONNX's own."""
    return node.domain in ("", "ai.onnx")


def is_float_layer(node: onnx.NodeProto) -> bool:
    """Whether its second input is a float weight, where that is constant."""
    if node.domain == opset.DOMAIN:
        return node.op_type in POOLED_FLOAT_LAYERS
    return is_standard(node) and node.op_type in FLOAT_LAYERS


def kind_of(node: onnx.NodeProto, kernel: bool, constants: Mapping[str, object]) -> str:
    """See `NodeRow.kind`."""
    if not kernel:
        return "shape"
    if is_float_layer(node) and node.input[1] in constants:
        return "float_layer"
    if node.domain != opset.DOMAIN or node.op_type in opset.FLOAT_OPS:
        return "float"
    if opset.float32_op(node.op_type) in BINARY_WEIGHT_OPS:
        return "binary_weight"
    return "binary" if node.op_type in opset.WEIGHT_OPS else "bits"


def _row(node: onnx.NodeProto, kernel: bool, constants: Mapping[str, int], sizes: Sizes) -> NodeRow:
    return NodeRow(
        name=node.name,
        op_type=node.op_type,
        kind=kind_of(node, kernel, constants),
        kernel=kernel,
        inputs=tuple(name for name in node.input if name and name not in constants),
        outputs={name: sizes.get(name) for name in node.output if name},
        constant_bytes=sum(constants[name] for name in {*node.input} & constants.keys()),
    )


def _constant_bytes(tensor: onnx.TensorProto) -> int:
    return prod(tensor.dims) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
