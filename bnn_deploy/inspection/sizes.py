"""How large each tensor of a file is, for one image of the size that the file was exported with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import onnx

from bnn_deploy import opset
from bnn_deploy.bits import Levels, words_for
from bnn_deploy.inspection.results import TensorSize

EXAMPLE_SHAPES = "bnn_deploy.example_shapes"  # metadata of the file: "1x3x224x224", inputs apart by ";"
LARGEST_SHAPE = 64  # elements; a constant beyond that is weights, and its values say nothing about shapes
FLOAT = onnx.TensorProto.FLOAT


@dataclass(frozen=True)
class _Packed:
    """Packed bits: the float tensor of the same size that stands for them, and the words to a pixel."""

    dense: str
    words: int


@dataclass
class Sizes:
    """Tensors by name."""

    tensors: dict[str, TensorSize] = field(default_factory=dict)
    packed: dict[str, _Packed] = field(default_factory=dict)

    def get(self, name: str) -> TensorSize | None:
        """The tensor as it is written; None where its size is not known."""
        packed = self.packed.get(name)
        if packed is None:
            return self.tensors.get(name)
        dense = self.tensors.get(packed.dense)
        if dense is None:
            return None
        shape = (dense.shape[0], *dense.shape[2:], packed.words)
        return TensorSize(shape, "int32", prod(shape) * 4, bits=True)

    def values(self, name: str) -> int | None:
        """How many values it holds, a bit counting as one; None where that is not known."""
        packed = self.packed.get(name)
        size = self.tensors.get(packed.dense if packed is not None else name)
        return None if size is None else prod(size.shape)


def tensor_sizes(model: onnx.ModelProto) -> Sizes:
    """The size of every tensor that shape inference can follow from the file's inputs.

    A free size is what the metadata says that the file was exported with, or 1. Sizes are for one image: where the
    batch is fixed, they are divided by it.
    """
    plain, packed = _with_standard_ops(model)
    inferred = onnx.shape_inference.infer_shapes(plain, data_prop=True).graph
    first = inferred.input[0].type.tensor_type.shape.dim if inferred.input else []
    batch = max(first[0].dim_value, 1) if first else 1
    tensors = {
        value.name: size
        for value in (*inferred.input, *inferred.value_info, *inferred.output)
        if (size := _size(value.type.tensor_type, batch)) is not None
    }
    return Sizes(tensors, packed)


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """Name -> value."""
    return {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}


def unpooled_name(node: onnx.NodeProto) -> str:
    """What a layer computes: its output, or what a stem takes the largest of, which no file has a name for."""
    return f"{node.output[0]}.unpooled" if node.op_type == opset.STEM_CONV2D_MAX_POOL else node.output[0]


def weight_shape(attributes: Mapping[str, Any], weight: onnx.TensorProto) -> tuple[int, ...]:
    """[O, C / group, KH, KW] or [O, C] of packed weights."""
    per_group = attributes["channels"] // attributes.get("group", 1)
    return (weight.dims[0], per_group, *weight.dims[1:-1])


def _size(kind: onnx.TypeProto.Tensor, batch: int) -> TensorSize | None:
    dims = kind.shape.dim
    if not kind.HasField("shape") or not all(size.HasField("dim_value") for size in dims) or not kind.elem_type:
        return None
    shape = tuple(size.dim_value for size in dims)
    if shape and shape[0] % batch == 0:
        shape = (shape[0] // batch, *shape[1:])
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
    return TensorSize(shape, str(dtype), prod(shape) * dtype.itemsize)


def _with_standard_ops(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, _Packed]]:
    """The model for shape inference only: a float Conv, Gemm or pool of the same shape in place of each op of ours.

    ONNX's shape inference does not see through our function bodies: they compute sizes from attributes. Weights become
    inputs without values, which need not be copied.
    """
    plain = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    graph, packed = plain.graph, dict[str, _Packed]()
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    graph.name = model.graph.name
    graph.input.extend(value for value in model.graph.input if value.name not in weights)
    _settle_free_sizes(graph, model)
    for tensor in model.graph.initializer:
        if prod(tensor.dims) <= LARGEST_SHAPE:
            graph.initializer.append(tensor)
        else:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    for node in model.graph.node:
        if node.domain != opset.DOMAIN:
            graph.node.append(node)
        elif node.op_type in opset.WEIGHT_OPS:
            _stand_in_for_layer(graph, packed, node, weights[node.input[1]])
        elif node.op_type == opset.PACKED_MAX_POOL2D:
            _stand_in_for_pool(graph, packed, node)
        elif node.op_type in opset.FLOAT_OPS:
            _stand_in_for_floats(graph, node)
        else:
            planes = Levels.TERNARY.planes if node.op_type == opset.PACK_TERNARY else 1
            packed[node.output[0]] = _Packed(node.input[0], planes * words_for(attributes_of(node)["channels"]))
    for value in model.graph.output:  # its own shape may have names in it that would stay
        graph.output.add(name=value.name).type.tensor_type.elem_type = value.type.tensor_type.elem_type
    return plain, packed


def _settle_free_sizes(graph: onnx.GraphProto, model: onnx.ModelProto) -> None:
    examples = next((entry.value for entry in model.metadata_props if entry.key == EXAMPLE_SHAPES), "")
    shapes = [[int(size) for size in text.split("x")] for text in examples.split(";") if text]
    for index, value in enumerate(graph.input):
        for axis, size in enumerate(value.type.tensor_type.shape.dim):
            if not size.HasField("dim_value"):
                known = index < len(shapes) and axis < len(shapes[index])
                size.dim_value = shapes[index][axis] if known else 1


def _stand_in_for_layer(
    graph: onnx.GraphProto, packed: dict[str, _Packed], node: onnx.NodeProto, weight: onnx.TensorProto
) -> None:
    attributes = attributes_of(node)
    shape, is_conv = weight_shape(attributes, weight), "strides" in attributes
    writes_bits = node.op_type in opset.BITS_OPS
    dense = f"{node.output[0]}.dense" if writes_bits else node.output[0]
    if writes_bits or len(node.output) == 2:
        packed[node.output[-1]] = _Packed(dense, words_for(shape[0]))
    kept = {name: attributes[name] for name in ("strides", "pads", "dilations", "group")} if is_conv else {"transB": 1}
    source = node.input[0]
    x, w = f"{dense}.x", f"{dense}.w"
    graph.input.append(onnx.helper.make_tensor_value_info(w, FLOAT, shape))
    graph.node.append(
        onnx.helper.make_node("Cast", [packed[source].dense if source in packed else source], [x], to=FLOAT)
    )
    z = f"{dense}.z" if node.op_type in opset.FLOAT16_OPS.values() else dense
    graph.node.append(onnx.helper.make_node("Conv" if is_conv else "Gemm", [x, w], [z], **kept))
    if z != dense:
        graph.node.append(onnx.helper.make_node("Cast", [z], [dense], to=onnx.TensorProto.FLOAT16))


def _stand_in_for_pool(graph: onnx.GraphProto, packed: dict[str, _Packed], node: onnx.NodeProto) -> None:
    source, dense = packed[node.input[0]], f"{node.output[0]}.dense"
    packed[node.output[0]] = _Packed(dense, source.words)
    kept = {name: value for name, value in attributes_of(node).items() if name != "channels"}
    graph.node.append(onnx.helper.make_node("MaxPool", [source.dense], [dense], **kept))


def _stand_in_for_floats(graph: onnx.GraphProto, node: onnx.NodeProto) -> None:
    x, y, attributes = node.input[0], node.output[0], attributes_of(node)
    if node.op_type == opset.STEM_CONV2D_MAX_POOL:
        unpooled = unpooled_name(node)
        conv = onnx.helper.make_node("Conv", [x, node.input[1]], [unpooled], strides=opset.STEM_STRIDES, **attributes)
        graph.node.extend([conv, onnx.helper.make_node("MaxPool", [unpooled], [y], **opset.STEM_POOL)])
        return
    pooled = y if node.op_type == opset.AVERAGE_POOL2D else f"{y}.pooled"
    graph.node.append(onnx.helper.make_node("AveragePool", [x], [pooled], **attributes))
    if pooled != y:
        graph.node.append(onnx.helper.make_node("Conv", [pooled, node.input[1]], [y]))
