"""Reads and writes the epilogue `y = scale[o] * accumulator + bias[o]` of a 1-bit layer, for the passes that fold."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bnn_deploy.passes.affine import Coefficients
from bnn_deploy.passes.graph import add_rounded, exact_value, only_consumer

_SCALE, _BIAS = 2, 3

ScaleAndBias = tuple[NDArray[np.float64], NDArray[np.float64]]
"""(scale, bias), each [O]."""


def read_epilogue(layer: ir.Node) -> ScaleAndBias:
    """(scale, bias), each [O], in the float64 that they were derived in."""
    return exact_value(layer.inputs[_SCALE]), exact_value(layer.inputs[_BIAS])


def followed_by(epilogue: ScaleAndBias, coefficients: Coefficients) -> ScaleAndBias:
    """The epilogue with `factor * (y - centre) + term` behind it, one epilogue again.

    factor * (scale * acc + bias - centre) + term = (factor * scale) * acc + (factor * (bias - centre) + term)
    """
    (scale, bias), (factor, centre, term) = epilogue, coefficients
    with np.errstate(over="ignore", invalid="ignore"):
        return factor * scale, factor * (bias - centre) + term


def declines_to_fold(layer: ir.Node) -> str:
    """Why nothing may be folded into `layer`, or an empty string."""
    if only_consumer(layer.outputs[0]) is None:
        return "the layer's output is read elsewhere too, or is an output of the network"
    return ""


def unrepresentable(epilogue: ScaleAndBias) -> str:
    """Why the file cannot hold this epilogue, or an empty string.

    An infinite scale would make NaN of an accumulator of 0, where the ops it stands for made something else.
    """
    with np.errstate(over="ignore"):
        finite = all(np.isfinite(exact.astype(np.float32)).all() for exact in epilogue)
    return "" if finite else "the scale and bias that it leads to are not finite in float32"


def write_epilogue(model: ir.Model, layer: ir.Node, epilogue: ScaleAndBias, *, absorbed: ir.Node) -> None:
    """Gives `layer` another scale and bias and takes `absorbed`, which they now stand for, out of the graph."""
    for index, exact in zip((_SCALE, _BIAS), epilogue, strict=True):
        old = layer.inputs[index]
        name = old.name if old is not None and old.name is not None else f"{layer.name}.epilogue"
        if old is not None and len(old.uses()) == 1:
            model.graph.initializers.pop(name, None)
        layer.replace_input_with(index, add_rounded(model, name, exact))
    output, gone = layer.outputs[0], absorbed.outputs[0]
    original, was_output = gone.name, gone.is_graph_output()
    ir.convenience.replace_all_uses_with(gone, output, replace_graph_outputs=was_output)
    output.name, output.type, output.shape = original, gone.type, gone.shape
    model.graph.remove(absorbed, safe=True)
