"""The layers of a graph: every node that has constant weights, 1-bit or float."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from bnn_deploy import opset
from bnn_deploy.bits import Levels
from bnn_deploy.inspection.advice import Advisor
from bnn_deploy.inspection.nodes import BINARY_WEIGHT_OPS, POOLED_FLOAT_LAYERS, is_float_layer
from bnn_deploy.inspection.results import LayerRow
from bnn_deploy.inspection.sizes import Sizes, attributes_of, unpooled_name, weight_shape

Initializers = Mapping[str, onnx.TensorProto]


def layer_rows(model: onnx.ModelProto, sizes: Sizes) -> tuple[LayerRow, ...]:
    """A row for each layer, in the order of the file."""
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    advisor = Advisor(model.graph)
    rows = (_row(node, initializers, sizes, advisor) for node in model.graph.node)
    return tuple(row for row in rows if row is not None)


def _row(node: onnx.NodeProto, initializers: Initializers, sizes: Sizes, advisor: Advisor) -> LayerRow | None:
    weight = initializers.get(node.input[1]) if len(node.input) > 1 else None
    if weight is None:
        return None
    if node.domain == opset.DOMAIN and node.op_type in opset.WEIGHT_OPS:
        return _binary_row(node, weight, initializers, sizes, advisor)
    if is_float_layer(node):
        return _float_row(node, weight, sizes, advisor)
    return None


def _binary_row(
    node: onnx.NodeProto, weight: onnx.TensorProto, initializers: Initializers, sizes: Sizes, advisor: Advisor
) -> LayerRow:
    attributes = attributes_of(node)
    is_conv, packed = "strides" in attributes, opset.float32_op(node.op_type) not in BINARY_WEIGHT_OPS
    shape, levels = weight_shape(attributes, weight), "float"
    if packed:
        ternary = opset.float32_op(node.op_type) in (opset.PACKED_TERNARY_CONV2D, opset.PACKED_TERNARY_LINEAR)
        levels = Levels.TERNARY if ternary else Levels.BIPOLAR if attributes["low"] == -1 else Levels.UNIPOLAR
    return LayerRow(
        name=node.name,
        kind="conv2d" if is_conv else "linear",
        binary=packed,
        reason=None
        if packed
        else "1-bit weights with float activations: nothing binarises its input; put a binary activation before it",
        levels=str(levels),
        shape=shape,
        macs=_macs(shape, sizes.values(node.output[0])),
        weight_bits=1,
        weight_bytes=prod(weight.dims) * 4,
        scale="thresholds" if node.op_type in opset.BITS_OPS else _scale_kind(initializers.get(node.input[2])),
        padding={"pads": attributes["pads"], "value": attributes["pad_value"]} if is_conv else None,
        advice=advisor.for_binary(str(levels)) if packed else advisor.for_float_input(node),
    )


def _float_row(node: onnx.NodeProto, weight: onnx.TensorProto, sizes: Sizes, advisor: Advisor) -> LayerRow:
    attributes = attributes_of(node)
    is_conv = node.op_type in ("Conv", *POOLED_FLOAT_LAYERS)
    dims = tuple(weight.dims)
    transposed = node.op_type == "MatMul" or (node.op_type == "Gemm" and not attributes.get("transB", 0))
    shape = dims[::-1] if transposed and len(dims) == 2 else dims
    array = numpy_helper.to_array(weight)
    one_alpha = _has_one_alpha(array, transposed)
    return LayerRow(
        name=node.name,
        kind="conv2d" if is_conv else "linear",
        binary=False,
        reason="a float layer whose weights are ±alpha: make it a BinaryConv2d or BinaryLinear of bnn_deploy.nn"
        if one_alpha
        else "a float layer of the model",
        levels="float",
        shape=shape,
        macs=_macs(shape, sizes.values(unpooled_name(node))),
        weight_bits=array.dtype.itemsize * 8,
        weight_bytes=array.nbytes,
        scale="none",
        padding={"pads": attributes.get("pads", [0, 0, 0, 0]), "value": 0.0} if is_conv else None,
        advice=advisor.for_float(node, shape, one_alpha=one_alpha),
    )


def _has_one_alpha(weight: NDArray[Any], transposed: bool) -> bool:
    """Whether the weights of each output have the same magnitude: somebody has binarised them."""
    per_output = np.abs(weight.T if transposed else weight).reshape(weight.shape[-1 if transposed else 0], -1)
    if weight.size <= per_output.shape[0]:
        return False
    return bool((per_output == per_output[:, :1]).all() and (per_output > 0).all())


def _scale_kind(tensor: onnx.TensorProto | None) -> str:
    if tensor is None:
        return "channel"
    scale = numpy_helper.to_array(tensor)
    if (scale == 1).all():
        return "none"
    return "tensor" if scale.size > 1 and (scale == scale.flat[0]).all() else "channel"


def _macs(shape: Sequence[int], values: int | None) -> int | None:
    """Each output value is a sum over the weights of one output channel."""
    return None if values is None else values * prod(shape[1:])
