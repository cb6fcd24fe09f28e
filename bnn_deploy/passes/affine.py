r"""Reading `y = k[c] * (x - m[c]) + b[c]` off a node: BatchNorm in evaluation mode, arithmetic with constants.

BatchNormalization:  k = gamma / sqrt(var + eps),  m = mean,  b = beta
x * c, x / c:        k = c, 1 / c,                 m = 0,     b = 0
x + c, x - c:        k = 1,                        m = -c, c, b = 0
c - x:               k = -1,                       m = c,     b = 0

In this form nothing is rounded that need not be: an x that is exactly the mean gives exactly beta.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bnn_deploy.passes.graph import attribute, constant, is_op

ARITHMETIC = ("Mul", "Div", "Add", "Sub")


@dataclass(frozen=True)
class Affine:
    """`y = factor[c] * (x - centre[c]) + term[c]`. x: [N, C, *spatial]; factor, centre, term: [C] float64, finite."""

    x: ir.Value
    factor: NDArray[np.float64]
    centre: NDArray[np.float64]
    term: NDArray[np.float64]

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """y of one x a channel, computed in float64 and rounded once; of arithmetic that is the float32 result itself.

        x: [C] -> [C].
        """
        return (self.factor * (x.astype(np.float64) - self.centre) + self.term).astype(np.float32)


def read_affine(node: ir.Node | None, channels: int) -> Affine | None:
    """What `node` computes, if it is affine in one operand with finite constants that vary over channels at most."""
    if node is None:
        return None
    affine = None
    if is_op(node, "BatchNormalization", domain=""):
        affine = _batch_norm(node)
    elif is_op(node, *ARITHMETIC, domain=""):
        affine = _arithmetic(node, channels)
    if affine is None or not all(np.isfinite(part).all() for part in (affine.factor, affine.centre, affine.term)):
        return None
    return affine


Coefficients = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
"""(factor, centre, term) of `Affine`, each [C]; finite or not."""


def arithmetic_coefficients(op_type: str, c: NDArray[np.float64], *, x_first: bool) -> Coefficients:
    """Of `x op c`, or of `c op x`; c: [C]. A division has x first."""
    zeros, ones = np.zeros(len(c)), np.ones(len(c))
    if op_type == "Mul":
        return c, zeros, zeros
    if op_type == "Add":
        return ones, -c, zeros
    if op_type == "Sub":
        return (ones if x_first else -ones), c, zeros
    return 1 / c, zeros, zeros


def per_channel(operand: NDArray[Any], channels: int, rank: int) -> NDArray[np.float64] | None:
    """A constant that broadcasts over [N, C, *spatial], `rank` axes, as [C]; None where it varies elsewhere."""
    if operand.ndim > rank:
        return None
    if operand.size == 1:
        return np.full(channels, operand.item(), np.float64)
    aligned = (1,) * (rank - operand.ndim) + operand.shape
    wanted = (1, channels, *[1] * (rank - 2))
    return operand.astype(np.float64).reshape(channels) if aligned == wanted else None


def _batch_norm(node: ir.Node) -> Affine | None:
    parameters = [constant(operand) for operand in node.inputs[1:5]]
    x = node.inputs[0]
    if x is None or attribute(node, "training_mode", 0) or any(array is None for array in parameters):
        return None
    return Affine(x, *read_batch_norm(node))


def read_batch_norm(node: ir.Node) -> Coefficients:
    """Of a BatchNormalization whose parameters are constant."""
    gamma, beta, mean, variance = (np.asarray(constant(operand), np.float64) for operand in node.inputs[1:5])
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return gamma / np.sqrt(variance + float(attribute(node, "epsilon", 1e-5))), mean, beta


def _arithmetic(node: ir.Node, channels: int) -> Affine | None:
    for index in (0, 1):
        x, other = node.inputs[index], node.inputs[1 - index]
        operand = constant(other)
        if x is None or operand is None or x.shape is None or constant(x) is not None:
            continue
        c = per_channel(operand, channels, len(x.shape))
        if c is None or (operand.size > 1 and x.shape[1] != channels):  # x itself might be what is broadcast
            return None
        if node.op_type == "Div" and (index == 1 or not c.all()):
            return None
        return Affine(x, *arithmetic_coefficients(node.op_type, c, x_first=index == 0))
    return None
