r"""Multiplications and additions by constants after a 1-bit layer disappear into the layer's scale and bias.

With `y = scale * acc + bias` and a constant c per output channel (or one for all):

    y * c     = (scale * c) * acc + bias * c           y / c = y * (1 / c), c != 0
    y + c     = scale * acc + (bias + c)               y - c = y + (-c)
    c - y     = (-scale) * acc + (c - bias)

Derived in float64, rounded once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bnn_deploy import opset
from bnn_deploy.passes.affine import ARITHMETIC, arithmetic_coefficients, per_channel
from bnn_deploy.passes.base import Declined, Pass, PassResult
from bnn_deploy.passes.epilogue import (
    ScaleAndBias,
    declines_to_fold,
    followed_by,
    read_epilogue,
    unrepresentable,
    write_epilogue,
)
from bnn_deploy.passes.graph import constant, is_op, nodes_of


class FoldAffinePass(Pass):
    """`layer(...) * c`, `/ c`, `+ c`, `- c` and `c - layer(...)` become `layer(...)` with another scale and bias."""

    def call(self, model: ir.Model) -> PassResult:
        changes, declined = 0, []
        for node in nodes_of(model, *ARITHMETIC, domain=""):
            match = _match(node)
            if match is None:
                continue
            layer, operand, layer_first = match
            reason = declines_to_fold(layer) or _cannot_fold(node, layer, operand, layer_first)
            if not reason:
                epilogue = _folded(node.op_type, layer, operand, layer_first)
                reason = unrepresentable(epilogue)
            if reason:
                where = layer.name or layer.op_type
                declined.append(Declined(where, f"{node.op_type} {node.name} was not folded: {reason}"))
                continue
            write_epilogue(model, layer, epilogue, absorbed=node)
            changes += 1
        return self.done(model, changes, declined)


def _match(node: ir.Node) -> tuple[ir.Node, NDArray[Any], bool] | None:
    """(layer, constant, whether the layer is the left operand), or None."""
    for index in (0, 1):
        value, other = node.inputs[index], node.inputs[1 - index]
        producer = value.producer() if value is not None else None
        if producer is not None and is_op(producer, *opset.LAYER_OPS):
            array = constant(other)
            if array is not None:
                return producer, array, index == 0
    return None


def _cannot_fold(node: ir.Node, layer: ir.Node, operand: NDArray[Any], layer_first: bool) -> str:
    if _per_channel(layer, operand) is None:
        return f"its constant has shape {list(operand.shape)}, not one value per output channel"
    if node.op_type == "Div" and (not layer_first or not operand.all()):
        return "it divides by the layer's output or by 0"
    return ""


def _folded(op_type: str, layer: ir.Node, operand: NDArray[Any], layer_first: bool) -> ScaleAndBias:
    c = _per_channel(layer, operand)
    if c is None:
        raise ValueError(f"{layer.name}: the constant does not vary by output channel alone")
    return followed_by(read_epilogue(layer), arithmetic_coefficients(op_type, c, x_first=layer_first))


def _per_channel(layer: ir.Node, operand: NDArray[Any]) -> NDArray[np.float64] | None:
    """The constant as [O], or None where it varies over anything but channels. The output is [N, O, H, W] or [N, O]."""
    return per_channel(operand, len(read_epilogue(layer)[0]), 4 if layer.op_type in opset.CONV_OPS else 2)
