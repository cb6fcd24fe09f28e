"""Two variants of a deployed model that let a harness look inside it.

*Observed*: what every binarisation wrote becomes an output. The network runs freely.

*Teacher-forced*: besides, the packed bits that each 1-bit layer reads become inputs, so that every layer can be given
the reference's own bits and an error in one cannot cascade into the next. A twin of each layer, a plain one with scale
1 and bias 0, yields the bare accumulator. On request the real tensors that are binarised, and read by float ops too,
are given as well: rounding then has no further to grow than from one binarisation to the next.

In a file of float16, a layer's y is rounded after its bits are decided. A float32 twin of each layer that writes both
yields what they were decided on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bnn_deploy import opset
from bnn_deploy.bits import Levels
from bnn_deploy.parity.points import FloatPoint, Instrumented, LayerPoint, PackPoint
from bnn_deploy.parity.twins import (
    accumulator_name,
    add_accumulator_twin,
    add_wide_twin,
    attributes_of,
    element_types,
    layer_names,
    rounds_behind_bits,
    wide_name,
)

_PACKS = (*opset.PACK_OPS.values(), opset.PACK_INTERVAL)
_BITS = (opset.PACKED_CONV2D_BITS, opset.PACKED_LINEAR_BITS)


def observed(model: onnx.ModelProto) -> Instrumented:
    """The model with the bits that layers read as outputs."""
    variant = _copy(model)
    packs, floats = _pack_points(variant), _float_points(variant)
    _add_outputs(variant, [point.read for point in packs], TensorProto.INT32)
    _add_outputs(variant, [point.read for point in floats], TensorProto.FLOAT)
    return Instrumented(variant, packs, floats, ())


def teacher_forced(model: onnx.ModelProto, *, force_streams: bool = False) -> Instrumented:
    """The model whose layers read given bits, with accumulators, layer outputs and new bits as outputs.

    Args:
        model: The deployed file.
        force_streams: Whether float ops are given the tensors that are binarised too; see `Instrumented.streams`.
    """
    variant = _copy(model)
    packs, float_points = _pack_points(variant), _float_points(variant)
    _force_floats(variant, float_points)
    forced = {point.read: point for point in packs}
    layers, ranks = [], {}
    for node in list(variant.graph.node):
        if node.domain != opset.DOMAIN or node.op_type not in opset.WEIGHT_OPS:
            continue
        point = forced.get(node.input[0])
        if point is not None:
            node.input[0] = point.forced
            ranks[point.name] = 2 if _is_linear(node) else 4
        layers.append(_layer_point(variant, node, point.name if point is not None else ""))
        if rounds_behind_bits(node):
            add_wide_twin(variant, node)
    packs = tuple(point for point in packs if point.name in ranks)  # the rest feed no layer
    for point in packs:
        shape = [None] * ranks[point.name]
        variant.graph.input.append(helper.make_tensor_value_info(point.forced, TensorProto.INT32, shape))
    _add_outputs(variant, [name for point in packs for name in (point.written, point.read)], TensorProto.INT32)
    _add_outputs(variant, [point.condition for point in packs], TensorProto.FLOAT)
    floats = [
        name for layer in layers for name in (layer.accumulator, layer.output, layer.operands.get("residual", ""))
    ]
    _add_outputs(variant, [name for name in floats if name], TensorProto.FLOAT)
    _add_outputs(variant, [point.read for point in float_points], TensorProto.FLOAT)
    streams, replaced = _force_streams(variant, packs, ranks) if force_streams else ({}, {})
    _add_outputs(variant, list(replaced.values()), TensorProto.FLOAT16)  # but for those that are inputs themselves
    layers = [
        replace(layer, operands={name: replaced.get(tensor, tensor) for name, tensor in layer.operands.items()})
        for layer in layers
    ]
    return Instrumented(variant, packs, float_points, tuple(layers), streams)


def _force_streams(
    model: onnx.ModelProto, packs: tuple[PackPoint, ...], ranks: Mapping[str, int]
) -> tuple[dict[str, str], dict[str, str]]:
    """Lets everything but binarisations read an input instead of a tensor that is binarised as it is.

    Returns:
        Name of a PackPoint -> input; that tensor -> what is read in its place.
    """
    inputs = {value.name for value in model.graph.input}
    there = {value.name: value for value in model.graph.value_info}
    streams, replaced = {}, {}
    for point in packs:
        known = there.get(point.stream)
        if not point.plain or point.stream in inputs or known is None:
            continue
        if len(known.type.tensor_type.shape.dim) != ranks[point.name]:
            continue
        readers = [
            (node, index)
            for node in model.graph.node
            if not (node.domain == opset.DOMAIN and node.op_type in _PACKS)
            for index, name in enumerate(node.input)
            if name == point.stream
        ]
        if readers:
            streams[point.name] = f"{point.stream}.stream"
            given = _given(model, streams[point.name], like=point.stream, rank=ranks[point.name])
            replaced[point.stream] = given
            for node, index in readers:
                node.input[index] = given
    return streams, replaced


def _force_floats(model: onnx.ModelProto, points: tuple[FloatPoint, ...]) -> None:
    """Lets everything that reads a binarisation in standard ops read an input instead."""
    forced = {point.read: _given(model, point.forced, like=point.read, rank=point.rank) for point in points}
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = forced.get(name, name)


def _given(model: onnx.ModelProto, forced: str, *, like: str, rank: int) -> str:
    """Adds the float32 input `forced` in place of a tensor; what readers read then, which has that tensor's type."""
    model.graph.input.append(helper.make_tensor_value_info(forced, TensorProto.FLOAT, [None] * rank))
    if element_types(model).get(like) != TensorProto.FLOAT16:
        return forced
    rounded = f"{forced}.fp16"
    model.graph.node.insert(0, helper.make_node("Cast", [forced], [rounded], name=rounded, to=TensorProto.FLOAT16))
    return rounded


def _float_points(model: onnx.ModelProto) -> tuple[FloatPoint, ...]:
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in model.graph.value_info}
    return tuple(
        FloatPoint(name, node.output[0], ranks[node.output[0]])
        for node in model.graph.node
        if node.domain != opset.DOMAIN
        and (name := _metadata(node).get(opset.PACK_NAME)) is not None
        and node.output[0] in ranks  # one that is the network's output is compared as such
    )


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    variant = onnx.ModelProto()
    variant.CopyFrom(model)
    return variant


def _pack_points(model: onnx.ModelProto) -> tuple[PackPoint, ...]:
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    pooled = {
        node.input[0]: node.output[0]
        for node in model.graph.node
        if node.domain == opset.DOMAIN and node.op_type == opset.PACKED_MAX_POOL2D
    }
    # What the bit 0 of a tensor stands for is said by the layers that read it; they agree, or one of them is wrong.
    lows = {
        node.input[0]: attributes["low"]
        for node in model.graph.node
        if node.domain == opset.DOMAIN and "low" in (attributes := attributes_of(node))
    }
    points = []
    for node in model.graph.node:
        if node.domain == opset.DOMAIN and (node.op_type in _PACKS or _writes_bits(node)):
            read = pooled.get(node.output[-1], node.output[-1])
            points.append(_pack_point(node, arrays, read, lows.get(read, -1.0)))
    return tuple(points)


def _writes_bits(node: onnx.NodeProto) -> bool:
    epilogue = opset.EPILOGUES.get(opset.float32_op(node.op_type))
    return node.op_type in _BITS or (epilogue is not None and epilogue.packs)


def _pack_point(node: onnx.NodeProto, arrays: Mapping[str, NDArray[Any]], read: str, low: float) -> PackPoint:
    written = node.output[-1]
    bounds, threshold, levels = None, np.zeros(1, np.float32), Levels.BIPOLAR if low == -1.0 else Levels.UNIPOLAR
    if node.op_type in _PACKS:
        name, condition, channels = node.name, node.input[0], attributes_of(node)["channels"]
        stream = condition
        levels = next((kind for kind, op_type in opset.PACK_OPS.items() if op_type == node.op_type), levels)
        if node.op_type == opset.PACK_INTERVAL:
            bounds = (arrays[node.input[1]], arrays[node.input[2]])
        elif levels is not Levels.TERNARY:
            threshold = arrays[node.input[1]]
    else:
        name = _metadata(node).get(opset.PACK_NAME, node.name)
        condition = accumulator_name(node) if node.op_type in _BITS else node.output[0]
        stream = node.output[0]
        condition = wide_name(node) if rounds_behind_bits(node) else condition
        bounds = (arrays[node.input[-2]], arrays[node.input[-1]])
        channels = len(arrays[node.input[1]])
    plain = read == written and node.op_type not in _BITS and _is_at_zero(bounds, threshold)
    return PackPoint(name, levels, channels, condition, stream, bounds, threshold, written, read, plain)


def _is_at_zero(bounds: tuple[NDArray[Any], NDArray[Any]] | None, threshold: NDArray[Any]) -> bool:
    if bounds is None:
        return not threshold.any()
    return bool((bounds[0] == 0).all() and np.isposinf(bounds[1]).all())


def _layer_point(model: onnx.ModelProto, node: onnx.NodeProto, pack: str) -> LayerPoint:
    attributes = attributes_of(node)
    names = tuple(layer_names(node))
    epilogue = opset.EPILOGUES.get(opset.float32_op(node.op_type), opset.Epilogue())
    bits_only = node.op_type in _BITS
    operands = {} if bits_only else dict(zip(("scale", "bias", *epilogue.operands), node.input[2:], strict=True))
    clip = (attributes.get("clip_low", -np.inf), attributes.get("clip_high", np.inf))
    output = "" if bits_only else node.output[0]
    return LayerPoint(names, pack, add_accumulator_twin(model, node), output, epilogue, operands, clip)


def _is_linear(node: onnx.NodeProto) -> bool:
    return opset.float32_op(node.op_type) in (*opset.LINEAR_OPS, opset.PACKED_LINEAR_BITS)


def _metadata(node: onnx.NodeProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in node.metadata_props}


def _add_outputs(model: onnx.ModelProto, names: list[str], dtype: int) -> None:
    """Makes outputs of tensors, of `dtype` where the file does not say another."""
    types = element_types(model)
    there = {value.name for value in model.graph.output}
    inputs = {value.name for value in model.graph.input}
    for name in names:
        if name in inputs:  # a network that binarises its input: an input cannot be an output too
            continue
        if name not in there:
            there.add(name)
            model.graph.output.append(helper.make_tensor_value_info(name, types.get(name, dtype), None))
