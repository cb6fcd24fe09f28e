"""What a whole network has to do at least, node by node, and how long that takes.

    floor = sum over nodes of max(bytes / bytes per second, multiply-accumulates / multiply-accumulates per second)

A node is one of the file, with what the file has fused into it and nothing more. Its bytes are those of its inputs,
constants too, and of its outputs, each once, in device memory. 1-bit layers multiply at the measured rate of the
fastest instruction that counts bits, float ones at half that of the fastest one for int8, which is what tensor cores
have for float16. A reshape is free.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx
from floors import Ceilings, Work
from onnx import helper
from slots import Array

from bnn_deploy import opset

FREE = ("Reshape", "Flatten", "Identity")
Shapes = Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]


@dataclass(frozen=True)
class NodeWork:
    """A node's share.

    Attributes:
        op_type: Its operator.
        work: Bytes and multiply-accumulates.
        binary: Whether it is one of ours.
    """

    op_type: str
    work: Work
    binary: bool

    def as_row(self) -> dict[str, Any]:
        """For a line of JSON."""
        return {"op": self.op_type, "bytes": self.work.bytes, "macs": self.work.macs, "binary": self.binary}


def node_floor_us(row: Mapping[str, Any], limits: Ceilings) -> float:
    """The floor of a node, in microseconds, of what `NodeWork.as_row` has."""
    rate = limits.binary_macs_per_second if row["binary"] else limits.int8_macs_per_second / 2
    return 1e6 * Work(row["bytes"], row["macs"]).seconds(limits.bytes_per_second, rate)


def shapes_of(model: onnx.ModelProto, batch: int) -> Shapes:
    """Name -> shape and type of every value that the file describes, with `batch` wherever a size is free."""
    graph = model.graph
    found = {
        value.name: (
            tuple(axis.dim_value if axis.HasField("dim_value") else batch for axis in value.type.tensor_type.shape.dim),
            helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type),
        )
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
    constants = {
        tensor.name: (tuple(tensor.dims), helper.tensor_dtype_to_np_dtype(tensor.data_type))
        for tensor in graph.initializer
    }
    return found | constants


def network_work(model: onnx.ModelProto, shapes: Shapes) -> list[NodeWork]:
    """Of every node that has something to do. The number of entries is that of the kernels that it takes at least."""
    return [
        NodeWork(node.op_type, Work(_bytes(node, shapes), _macs(node, shapes)), node.domain == opset.DOMAIN)
        for node in model.graph.node
        if node.op_type not in FREE
    ]


def _bytes(node: onnx.NodeProto, shapes: Shapes) -> int:
    return sum(prod(shape) * dtype.itemsize for shape, dtype in (shapes[name] for name in _names(node)))


def _names(node: onnx.NodeProto) -> list[str]:
    return [name for name in dict.fromkeys((*node.input, *node.output)) if name]


def _macs(node: onnx.NodeProto, shapes: Shapes) -> int:
    """Of a convolution, a matrix product, and the 1-bit layers: outputs times taps."""
    ours = node.domain == opset.DOMAIN
    if not (node.op_type in opset.WEIGHT_OPS if ours else node.op_type in ("Conv", "Gemm")):
        return 0
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    weight, written = shapes[node.input[1]][0], shapes[node.output[0]]
    if not ours:
        outputs = weight[0] if node.op_type == "Conv" or attributes.get("transB", 0) else weight[-1]
        return prod(written[0]) * prod(weight) // outputs
    packs_alone = node.op_type in opset.BITS_OPS  # its only output holds 32 channels to a word, which comes last
    pixels = prod(written[0][:-1]) * weight[0] if packs_alone else prod(written[0])
    return pixels * prod(weight[1:-1]) * attributes["channels"] // attributes.get("group", 1)


def constants_of(model: onnx.ModelProto) -> dict[str, Array]:
    """Name -> array of every constant."""
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
