r"""Whatever is affine per channel behind a 1-bit layer disappears into the layer's scale and bias.

With `y = scale * acc + bias`, per output channel, and `factor * (y - centre) + term` behind it (`affine` has these
three for each kind of node),

    factor * (y - centre) + term = (factor * scale) * acc + (factor * (bias - centre) + term)

    BatchNormalization in evaluation mode:  factor = gamma / sqrt(var + eps),  centre = mean,  term = beta
    y * c, y / c, y + c, y - c, c - y:      one constant c per channel, or one for all

It holds for every factor: negative (scale changes sign) and 0 (scale 0, bias `term`). What comes out has the form of
what went in, so a chain of them folds from the layer on, in whatever order they stand. It is derived in float64 all
along the chain (`graph.exact_value`), and what the file holds is rounded once.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from bnn_deploy import opset
from bnn_deploy.passes.affine import ARITHMETIC, Coefficients, arithmetic_coefficients, per_channel, read_batch_norm
from bnn_deploy.passes.base import Declined, Pass, PassResult
from bnn_deploy.passes.epilogue import (
    ScaleAndBias,
    declines_to_fold,
    followed_by,
    read_epilogue,
    unrepresentable,
    write_epilogue,
)
from bnn_deploy.passes.graph import attribute, constant, is_op, nodes_of

_NORM = "BatchNormalization"


class FoldAffinePass(Pass):
    """`BatchNormalization(layer(...))`, `layer(...) * c`... become `layer(...)` with another scale and bias."""

    def call(self, model: ir.Model) -> PassResult:
        changes, declined = 0, []
        for node in nodes_of(model, _NORM, *ARITHMETIC, domain=""):  # in graph order: each chain from its layer on
            match = _match(node)
            if match is None:
                continue
            layer, coefficients = match
            epilogue = declines_to_fold(layer) or _folded(layer, coefficients)
            if isinstance(epilogue, str):
                where = layer.name or layer.op_type
                declined.append(Declined(where, f"{node.op_type} {node.name} was not folded: {epilogue}"))
                continue
            write_epilogue(model, layer, epilogue, absorbed=node)
            changes += 1
        return self.done(model, changes, declined)


def _match(node: ir.Node) -> tuple[ir.Node, Coefficients | str] | None:
    """The layer that `node` follows, and what it does to the layer's output or why that cannot be said; or None."""
    if node.op_type == _NORM:
        layer = _layer(node.inputs[0])
        return None if layer is None else (layer, _of_batch_norm(node))
    for index in (0, 1):
        layer, operand = _layer(node.inputs[index]), constant(node.inputs[1 - index])
        if layer is not None and operand is not None:
            return layer, _of_arithmetic(node.op_type, layer, operand, layer_first=index == 0)
    return None


def _folded(layer: ir.Node, coefficients: Coefficients | str) -> ScaleAndBias | str:
    """The epilogue that the layer gets, or why it gets none."""
    if isinstance(coefficients, str):
        return coefficients
    epilogue = followed_by(read_epilogue(layer), coefficients)
    return unrepresentable(epilogue) or epilogue


def _layer(value: ir.Value | None) -> ir.Node | None:
    producer = value.producer() if value is not None else None
    return producer if is_op(producer, *opset.LAYER_OPS) else None


def _of_batch_norm(norm: ir.Node) -> Coefficients | str:
    if attribute(norm, "training_mode", 0):
        return "it is in training mode; call model.eval() before exporting"
    if any(constant(operand) is None for operand in norm.inputs[1:5]):
        return "its parameters are not constant"
    return read_batch_norm(norm)


def _of_arithmetic(op_type: str, layer: ir.Node, operand: NDArray[Any], *, layer_first: bool) -> Coefficients | str:
    """The layer's output is [N, O, H, W] or [N, O]."""
    c = per_channel(operand, len(read_epilogue(layer)[0]), 4 if layer.op_type in opset.CONV_OPS else 2)
    if c is None:
        return f"its constant has shape {list(operand.shape)}, not one value per output channel"
    if op_type == "Div" and (not layer_first or not operand.all()):
        return "it divides by the layer's output or by 0"
    return arithmetic_coefficients(op_type, c, x_first=layer_first)
