"""Reading the parameters of activation functions off their nodes: bounds of a ReLU or clamp, slopes of a PReLU."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bnn_deploy.passes.affine import per_channel
from bnn_deploy.passes.graph import attribute, constant, is_op

CLIPS = ("Relu", "Clip")
PRELUS = ("PRelu", "LeakyRelu")


def read_clip(node: ir.Node) -> tuple[np.float32, np.float32] | None:
    """(low, high) of `min(max(x, low), high)`, infinite where there is no bound, None where one is not constant."""
    if is_op(node, "Relu", domain=""):
        return np.float32(0), np.float32(np.inf)
    bounds = []
    for index, absent in ((1, -np.inf), (2, np.inf)):
        operand = node.inputs[index] if len(node.inputs) > index else None
        array = np.asarray(absent) if operand is None else constant(operand)
        if array is None or array.size != 1 or np.isnan(array).any():
            return None
        bounds.append(np.float32(array.item()))
    return bounds[0], bounds[1]


def read_slope(node: ir.Node, channels: int) -> NDArray[np.float64] | None:
    """slope of `x if x >= 0 else slope[c] * x` as [C], x: [N, C, *spatial]; None where it is no finite constant so."""
    if is_op(node, "LeakyRelu", domain=""):
        return np.full(channels, float(attribute(node, "alpha", 0.01)))
    x, array = node.inputs[0], constant(node.inputs[1])
    if x is None or x.shape is None or array is None or not np.isfinite(array).all():
        return None
    return per_channel(array, channels, len(x.shape))
