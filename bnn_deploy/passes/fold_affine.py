r"""Multiplications and additions by constants after a 1-bit layer disappear into the layer's scale and bias.

With `y = scale * acc + bias` and a constant c per output channel (or one for all):

    y * c     = (scale * c) * acc + bias * c           y / c = y * (1 / c), c != 0
    y + c     = scale * acc + (bias + c)               y - c = y + (-c)
    c - y     = (-scale) * acc + (c - bias)

Derived in float64, rounded once.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bnn_deploy import opset
from bnn_deploy.passes.base import Declined, Pass, PassResult
from bnn_deploy.passes.epilogue import declines_to_fold, read_epilogue, write_epilogue
from bnn_deploy.passes.graph import constant, is_op, nodes_of

_OPS = ("Mul", "Div", "Add", "Sub")


class FoldAffinePass(Pass):
    """`layer(...) * c`, `/ c`, `+ c`, `- c` and `c - layer(...)` become `layer(...)` with another scale and bias."""

    def call(self, model: ir.Model) -> PassResult:
        changes, declined = 0, []
        for node in nodes_of(model, *_OPS, domain=""):
            match = _match(node)
            if match is None:
                continue
            layer, operand, layer_first = match
            outputs = len(read_epilogue(layer)[0])
            per_channel = _per_channel(operand, outputs, spatial=layer.op_type in opset.CONV_OPS)
            if per_channel is None:
                reason = f"its constant has shape {list(operand.shape)}, not one value per output channel"
            elif node.op_type == "Div" and (not layer_first or not per_channel.all()):
                reason = "it divides by the layer's output or by 0"
            else:
                reason = declines_to_fold(layer)
            if reason or per_channel is None:
                declined.append(
                    Declined(layer.name or layer.op_type, f"{node.op_type} {node.name} was not folded: {reason}")
                )
                continue
            scale, bias = _folded(node.op_type, layer_first, *read_epilogue(layer), per_channel)
            write_epilogue(model, layer, scale, bias, absorbed=node)
            changes += 1
        return self.done(model, changes, declined)


def _match(node: ir.Node) -> tuple[ir.Node, NDArray[np.float64], bool] | None:
    """(layer, constant, whether the layer is the left operand), or None."""
    for index in (0, 1):
        value, other = node.inputs[index], node.inputs[1 - index]
        producer = value.producer() if value is not None else None
        if producer is not None and is_op(producer, *opset.LAYER_OPS):
            array = constant(other)
            if array is not None:
                return producer, array.astype(np.float64), index == 0
    return None


def _per_channel(operand: NDArray[np.float64], outputs: int, *, spatial: bool) -> NDArray[np.float64] | None:
    """The constant as [O], or None where it varies over anything but the channel axis. Output: [N, O, H, W] or [N, O]."""
    rank = 4 if spatial else 2
    if operand.size == 1:
        return np.full(outputs, operand.item())
    aligned = (1,) * (rank - operand.ndim) + operand.shape
    if len(aligned) != rank or aligned != (1, outputs, 1, 1)[:rank]:
        return None
    return operand.reshape(outputs)


def _folded(
    op_type: str, layer_first: bool, scale: NDArray[np.float64], bias: NDArray[np.float64], c: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if op_type == "Mul":
        return scale * c, bias * c
    if op_type == "Div":
        return scale / c, bias / c
    if op_type == "Add":
        return scale, bias + c
    return (scale, bias - c) if layer_first else (-scale, c - bias)
