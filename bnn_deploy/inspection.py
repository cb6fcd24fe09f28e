"""What is in a deployed file: every convolution and fully connected layer, 1-bit or not, why, its size and its work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from bnn_deploy import opset
from bnn_deploy.bits import Levels
from bnn_deploy.errors import InputRefused

EXAMPLE_SHAPES = "bnn_deploy.example_shapes"


@dataclass(frozen=True)
class LayerRow:
    """One layer.

    Attributes:
        name: Its name in the file; for a 1-bit layer, its path in the PyTorch model.
        kind: `conv2d` or `linear`.
        binary: Whether weights and activations are both 1-bit (or ternary, for activations).
        reason: Why not, where `binary` is false.
        levels: Of its activations: `bipolar`, `unipolar`, `ternary` or `float`.
        shape: Of its weight: [O, C / group, KH, KW] or [O, C].
        macs: Multiply-accumulates for one image of the size it was exported with; None where that is not known.
        weight_bits: 1, or 32 for float.
        weight_bytes: What its weight takes in the file.
        scale: `channel`, `tensor` or `none`: how the epilogue's scale varies, with all that was folded into it.
        padding: Pads (top, left, bottom, right) and the value of padded pixels; None for a fully connected layer.
    """

    name: str
    kind: str
    binary: bool
    reason: str | None
    levels: str
    shape: tuple[int, ...]
    macs: int | None
    weight_bits: int
    weight_bytes: int
    scale: str
    padding: dict[str, Any] | None

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)


@dataclass(frozen=True)
class FloatWeight:
    """A float tensor that stays in the file, and which nodes read it."""

    name: str
    shape: tuple[int, ...]
    bytes: int
    used_by: tuple[str, ...]


@dataclass(frozen=True)
class Inspection:
    """A file as a whole."""

    layers: tuple[LayerRow, ...]
    float_weights: tuple[FloatWeight, ...]
    file_bytes: int
    opset: int

    @property
    def binary_macs(self) -> int:
        """Multiply-accumulates of the 1-bit layers, for one image."""
        return sum(layer.macs or 0 for layer in self.layers if layer.binary)

    @property
    def total_macs(self) -> int:
        """Multiply-accumulates of all layers, for one image."""
        return sum(layer.macs or 0 for layer in self.layers)

    def to_json(self) -> dict[str, Any]:
        """Totals, layers, float weights."""
        return {
            "file_bytes": self.file_bytes,
            "opset": self.opset,
            "binary_macs": self.binary_macs,
            "total_macs": self.total_macs,
            "layers": [layer.to_json() for layer in self.layers],
            "float_weights": [asdict(weight) for weight in self.float_weights],
        }


def load_model(path: str | Path) -> onnx.ModelProto:
    """Reads an ONNX file.

    Raises:
        InputRefused: No such file, or not an ONNX file.
    """
    if not Path(path).is_file():
        raise InputRefused(str(path), "no such file", "an ONNX file, or a folder that `bnn-deploy export` wrote")
    try:
        model = onnx.load(str(path))
    except Exception as error:  # protobuf raises its own unrelated types
        raise InputRefused(str(path), f"cannot be read as ONNX: {error}", "an ONNX file") from error
    if not model.graph.node:
        raise InputRefused(str(path), "no node in it", "an ONNX file")
    return model


def inspect_file(path: str | Path) -> Inspection:
    """Reads an ONNX file and looks at every layer in it.

    Raises:
        InputRefused: No such file, or not an ONNX file.
    """
    return inspect_model(load_model(path), file_bytes=Path(path).stat().st_size)


def inspect_model(model: onnx.ModelProto, *, file_bytes: int) -> Inspection:
    """Looks at every node that has constant weights."""
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    sizes = _output_sizes(model)
    rows = [row for node in model.graph.node if (row := _row(node, initializers, sizes)) is not None]
    version = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    return Inspection(tuple(rows), _float_weights(model, initializers), file_bytes, version)


def _row(
    node: onnx.NodeProto, initializers: Mapping[str, onnx.TensorProto], sizes: Mapping[str, tuple[int, ...]]
) -> LayerRow | None:
    weight = initializers.get(node.input[1]) if len(node.input) > 1 else None
    if weight is None:
        return None
    if node.domain == opset.DOMAIN and node.op_type in opset.LAYER_OPS:
        return _binary_row(node, weight, initializers, sizes)
    if node.domain in ("", "ai.onnx") and node.op_type in ("Conv", "Gemm", "MatMul"):
        return _float_row(node, weight, sizes)
    return None


def _binary_row(
    node: onnx.NodeProto,
    weight: onnx.TensorProto,
    initializers: Mapping[str, onnx.TensorProto],
    sizes: Mapping[str, tuple[int, ...]],
) -> LayerRow:
    attributes = _attributes(node)
    is_conv = node.op_type in opset.CONV_OPS
    shape = _weight_shape(attributes, weight, is_conv)
    packed = node.op_type in opset.PACKED_LAYER_OPS
    levels = "float"
    if packed:
        ternary = node.op_type in (opset.PACKED_TERNARY_CONV2D, opset.PACKED_TERNARY_LINEAR)
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
        macs=_macs(shape, sizes.get(node.output[0]), is_conv),
        weight_bits=1,
        weight_bytes=prod(weight.dims) * 4,
        scale=_scale_kind(initializers.get(node.input[2])),
        padding={"pads": attributes["pads"], "value": attributes["pad_value"]} if is_conv else None,
    )


def _float_row(node: onnx.NodeProto, weight: onnx.TensorProto, sizes: Mapping[str, tuple[int, ...]]) -> LayerRow:
    attributes = _attributes(node)
    is_conv = node.op_type == "Conv"
    dims = tuple(weight.dims)
    transposed = node.op_type == "MatMul" or (node.op_type == "Gemm" and not attributes.get("transB", 0))
    shape = dims[::-1] if transposed and len(dims) == 2 else dims
    array = numpy_helper.to_array(weight)
    return LayerRow(
        name=node.name,
        kind="conv2d" if is_conv else "linear",
        binary=False,
        reason=_why_float(array, transposed),
        levels="float",
        shape=shape,
        macs=_macs(shape, sizes.get(node.output[0]), is_conv),
        weight_bits=array.dtype.itemsize * 8,
        weight_bytes=array.nbytes,
        scale="none",
        padding={"pads": attributes.get("pads", [0, 0, 0, 0]), "value": 0.0} if is_conv else None,
    )


def _why_float(weight: NDArray[Any], transposed: bool) -> str:
    per_output = np.abs(weight.T if transposed else weight).reshape(weight.shape[-1 if transposed else 0], -1)
    if weight.size > per_output.shape[0] and (per_output == per_output[:, :1]).all() and (per_output > 0).all():
        return "a float layer whose weights are ±alpha: make it a BinaryConv2d or BinaryLinear of bnn_deploy.nn"
    return "a float layer of the model"


def _scale_kind(tensor: onnx.TensorProto | None) -> str:
    if tensor is None:
        return "channel"
    scale = numpy_helper.to_array(tensor)
    if (scale == 1).all():
        return "none"
    return "tensor" if scale.size > 1 and (scale == scale.flat[0]).all() else "channel"


def _macs(shape: Sequence[int], size: tuple[int, ...] | None, is_conv: bool) -> int | None:
    if is_conv:
        return None if size is None or len(size) != 4 else prod(shape) * size[2] * size[3]
    return None if size is None else prod(shape) * prod(size[1:-1])


def _float_weights(model: onnx.ModelProto, initializers: Mapping[str, onnx.TensorProto]) -> tuple[FloatWeight, ...]:
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE, onnx.TensorProto.BFLOAT16)
    found = []
    for name, tensor in initializers.items():
        if tensor.data_type in floats:
            readers = tuple(node.name for node in model.graph.node if name in node.input)
            size = numpy_helper.to_array(tensor).nbytes
            found.append(FloatWeight(name, tuple(tensor.dims), size, readers))
    return tuple(sorted(found, key=lambda weight: -weight.bytes))


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}


def _output_sizes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor for one image of the size that the file was exported with."""
    sized = _with_standard_ops(model)
    examples = next((entry.value for entry in model.metadata_props if entry.key == EXAMPLE_SHAPES), "")
    shapes = [[int(size) for size in text.split("x")] for text in examples.split(";") if text]
    for index, value in enumerate(sized.graph.input):
        for axis, size in enumerate(value.type.tensor_type.shape.dim):
            if not size.HasField("dim_value"):
                known = index < len(shapes) and axis < len(shapes[index])
                size.dim_value = shapes[index][axis] if known else 1
    for value in sized.graph.output:
        value.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(sized, data_prop=True)
    return {
        value.name: tuple(size.dim_value for size in value.type.tensor_type.shape.dim)
        for value in [*inferred.graph.value_info, *inferred.graph.output]
        if all(size.HasField("dim_value") for size in value.type.tensor_type.shape.dim)
    }


def _with_standard_ops(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with a float Conv or Gemm of the same shape in the place of each op of ours, for shape inference only.

    ONNX's shape inference does not see through our function bodies: they compute sizes from attributes.
    """
    twin = onnx.ModelProto()
    twin.CopyFrom(model)
    del twin.functions[:], twin.graph.node[:], twin.graph.value_info[:]
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    real: dict[str, str] = {}  # a packed tensor -> the tensor that was packed
    for node in model.graph.node:
        if node.domain != opset.DOMAIN:
            twin.graph.node.append(node)
        elif node.op_type in opset.PACK_OPS.values():
            real[node.output[0]] = node.input[0]
        elif node.op_type in opset.LAYER_OPS:
            attributes = _attributes(node)
            is_conv = node.op_type in opset.CONV_OPS
            shape = _weight_shape(attributes, weights[node.input[1]], is_conv)
            dense = f"{node.output[0]}.dense"
            twin.graph.input.append(onnx.helper.make_tensor_value_info(dense, onnx.TensorProto.FLOAT, shape))
            kept = (
                {name: attributes[name] for name in ("strides", "pads", "dilations", "group")}
                if is_conv
                else {"transB": 1}
            )
            operands = [real.get(node.input[0], node.input[0]), dense]
            twin.graph.node.append(onnx.helper.make_node("Conv" if is_conv else "Gemm", operands, node.output, **kept))
    return twin


def _weight_shape(attributes: Mapping[str, Any], weight: onnx.TensorProto, is_conv: bool) -> tuple[int, ...]:
    """[O, C / group, KH, KW] or [O, C] of packed weights."""
    per_group = attributes["channels"] // attributes.get("group", 1)
    return (weight.dims[0], per_group, *weight.dims[1:-1]) if is_conv else (weight.dims[0], per_group)
