"""Whether a network still computes something at the smallest sizes of a profile.

TensorRT builds engines of tensors without elements as of any others, and says nothing. So the model is parsed once more
with these sizes in place of the free ones, which shows every shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx

from bnn_deploy.errors import InputRefused
from bnn_deploy.tensorrt.network import parse
from bnn_deploy.tensorrt.profiles import InputShapes


def check_smallest(model: onnx.ModelProto, number: int, inputs: Mapping[str, InputShapes], plugin: Path | None) -> None:
    """Raises `InputRefused`, with the layer's name, where a layer has nothing left to compute.

    Args:
        model: An exported file.
        number: Of the profile, for the message.
        inputs: Its shapes.
        plugin: The library of our plugins, if the engine is to have them.
    """
    sizes = ", ".join(f"{name} {_text(shapes.minimum)}" for name, shapes in inputs.items())
    where, wanted = f"profile {number}", "sizes that every layer makes something of"
    try:
        network = parse(_at_smallest(model, inputs), plugin).network
    except InputRefused as error:
        found = f"its smallest sizes ({sizes}) are refused: {error.where}: {error.found}"
        raise InputRefused(where, found, wanted) from error
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        for output in range(layer.num_outputs):
            shape = tuple(layer.get_output(output).shape)
            if any(size == 0 for size in shape):
                found = f"of its smallest sizes ({sizes}) the layer {layer.name} makes {_text(shape)}"
                raise InputRefused(where, found, wanted)


def _at_smallest(model: onnx.ModelProto, inputs: Mapping[str, InputShapes]) -> onnx.ModelProto:
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for value in fixed.graph.input:
        if value.name in inputs:
            for axis, size in zip(value.type.tensor_type.shape.dim, inputs[value.name].minimum, strict=True):
                axis.dim_value = size
    return fixed


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
