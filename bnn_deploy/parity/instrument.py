"""Two variants of a deployed model that let a harness look inside it.

*Observed*: the real values at every binarisation become outputs. The network runs freely.

*Teacher-forced*: besides, the packed bits that each 1-bit layer reads become inputs, so that every layer can be given
the reference's own bits and an error in one cannot cascade into the next. A twin of each layer with scale 1 and bias 0
yields the bare accumulator.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bnn_deploy import opset

_PACKS = tuple(opset.PACK_OPS.values())


@dataclass(frozen=True)
class PackPoint:
    """A binarisation in the file. `forced` is an input of the teacher-forced model only."""

    name: str
    real: str  # the tensor before it, [N, C, *spatial]
    packed: str  # what the node makes of it
    forced: str  # what the layers read instead


@dataclass(frozen=True)
class LayerPoint:
    """A 1-bit layer in the file."""

    name: str
    pack: str  # the PackPoint whose bits it reads; empty for a layer with float activations
    accumulator: str  # the output of its twin
    output: str
    scale: str  # initializers
    bias: str


@dataclass(frozen=True)
class Instrumented:
    """A variant, and where to look in it."""

    model: onnx.ModelProto
    packs: tuple[PackPoint, ...]
    layers: tuple[LayerPoint, ...]


def observed(model: onnx.ModelProto) -> Instrumented:
    """The model with the tensor before every binarisation as an output."""
    variant = _copy(model)
    packs = _pack_points(variant)
    _add_outputs(variant, [point.real for point in packs], TensorProto.FLOAT)
    return Instrumented(variant, packs, ())


def teacher_forced(model: onnx.ModelProto) -> Instrumented:
    """The model whose layers read given bits, with accumulators, layer outputs and new bits as outputs."""
    variant = _copy(model)
    packs, layers, ranks = _pack_points(variant), [], {}
    forced = {point.packed: point for point in packs}
    for node in list(variant.graph.node):
        for index, name in enumerate(node.input):
            if name in forced:
                node.input[index] = forced[name].forced
        if node.domain == opset.DOMAIN and node.op_type in opset.LAYER_OPS:
            source = next((point.name for point in packs if point.forced == node.input[0]), "")
            ranks[source] = 4 if node.op_type in opset.CONV_OPS else 2
            twin = _accumulator_twin(variant, node)
            layers.append(LayerPoint(node.name, source, twin, node.output[0], node.input[2], node.input[3]))
    for point in packs:
        shape = [None] * ranks[point.name]
        variant.graph.input.append(helper.make_tensor_value_info(point.forced, TensorProto.INT32, shape))
    _add_outputs(variant, [point.real for point in packs], TensorProto.FLOAT)
    _add_outputs(variant, [point.packed for point in packs], TensorProto.INT32)
    _add_outputs(variant, [name for layer in layers for name in (layer.accumulator, layer.output)], TensorProto.FLOAT)
    return Instrumented(variant, packs, tuple(layers))


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    variant = onnx.ModelProto()
    variant.CopyFrom(model)
    return variant


def _pack_points(model: onnx.ModelProto) -> tuple[PackPoint, ...]:
    return tuple(
        PackPoint(node.name, node.input[0], node.output[0], f"{node.output[0]}.forced")
        for node in model.graph.node
        if node.domain == opset.DOMAIN and node.op_type in _PACKS
    )


def _add_outputs(model: onnx.ModelProto, names: list[str], dtype: int) -> None:
    there = {value.name for value in model.graph.output}
    inputs = {value.name for value in model.graph.input}
    for name in names:
        if name in inputs:  # a network that binarises its input: an input cannot be an output too
            continue
        if name not in there:
            there.add(name)
            model.graph.output.append(helper.make_tensor_value_info(name, dtype, None))


def _accumulator_twin(model: onnx.ModelProto, node: onnx.NodeProto) -> str:
    """Adds a copy of `node` with scale 1 and bias 0; returns its output, which is the accumulator."""
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
    twin = onnx.NodeProto()
    twin.CopyFrom(node)
    twin.name = f"{node.name}/accumulator"
    del twin.input[2:], twin.output[:]
    twin.input.extend(constants)
    twin.output.append(f"{node.output[0]}.accumulator")
    # Directly behind the layer, so that the graph stays in topological order.
    position = list(model.graph.node).index(node)
    model.graph.node.insert(position + 1, twin)
    return twin.output[0]
