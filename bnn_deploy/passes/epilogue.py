"""Reading and writing the epilogue `y = scale[o] * accumulator + bias[o]` of a 1-bit layer, for the passes that fold."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bnn_deploy.passes.graph import add_rounded, exact_value, only_consumer

_SCALE, _BIAS = 2, 3


def read_epilogue(layer: ir.Node) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(scale, bias), each [O], in the float64 that they were derived in."""
    return exact_value(layer.inputs[_SCALE]), exact_value(layer.inputs[_BIAS])


def declines_to_fold(layer: ir.Node) -> str:
    """Why nothing may be folded into `layer`, or an empty string."""
    if only_consumer(layer.outputs[0]) is None:
        return "the layer's output is read elsewhere too, or is an output of the network"
    return ""


def write_epilogue(
    model: ir.Model, layer: ir.Node, scale: NDArray[np.float64], bias: NDArray[np.float64], *, absorbed: ir.Node
) -> None:
    """Gives `layer` another scale and bias and takes `absorbed`, which they now stand for, out of the graph."""
    for index, exact in ((_SCALE, scale), (_BIAS, bias)):
        old = layer.inputs[index]
        name = old.name if old is not None and old.name else f"{layer.name}.epilogue"
        if old is not None and old.name is not None and len(list(old.uses())) == 1:
            del model.graph.initializers[old.name]
        layer.replace_input_with(index, add_rounded(model, name, exact))
    output, gone = layer.outputs[0], absorbed.outputs[0]
    name, was_output = gone.name, gone.is_graph_output()
    ir.convenience.replace_all_uses_with(gone, output, replace_graph_outputs=was_output)
    output.name, output.type, output.shape = name, gone.type, gone.shape
    model.graph.remove(absorbed, safe=True)
