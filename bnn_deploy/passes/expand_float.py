r"""The opposite of this project, for comparison: binary layers become plain float convolutions with ±alpha weights.

It is what stock tools make of a binary network today, and so the baseline for file size and speed.

    BinaryConv2d(x, w[, b]) -> Conv(Pad(x), alpha * sign(w)[, b])
    BinaryLinear(x, w[, b]) -> MatMul(x, (alpha * sign(w))^T) [+ b]
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bnn_deploy import opset
from bnn_deploy.errors import InputRefused
from bnn_deploy.passes.base import Pass, PassResult
from bnn_deploy.passes.graph import add_initializer, attribute, constant, nodes_of, replace
from bnn_deploy.passes.pack_weights import weight_scale


class ExpandFloatPass(Pass):
    """Replaces the training-level layers by standard float ones."""

    def call(self, model: ir.Model) -> PassResult:
        changes = 0
        for node in nodes_of(model, opset.BINARY_CONV2D, opset.BINARY_LINEAR):
            latent = constant(node.inputs[1])
            if latent is None:
                raise InputRefused(
                    node.name or node.op_type, "the weights are computed from the network's input", "constant weights"
                )
            alpha = weight_scale(latent, attribute(node, "weight_scale"), bool(attribute(node, "weight_clamp")))
            sign = np.where(latent >= 0, 1.0, -1.0)
            if attribute(node, "weight_zero") == "zero":
                sign[latent == 0] = 0.0
            weight = (sign * alpha.reshape(-1, *[1] * (latent.ndim - 1))).astype(np.float32)
            if node.op_type == opset.BINARY_CONV2D:
                _to_conv(model, node, weight)
            else:
                _to_linear(model, node, weight)
            changes += 1
        return self.done(model, changes)


def _to_conv(model: ir.Model, node: ir.Node, weight: NDArray[np.float32]) -> None:
    """weight: [O, C / group, KH, KW], ±alpha."""
    nodes = padded_convolution(model, node, weight, node.inputs[2:])
    replace(node, nodes, nodes[-1].outputs[0])


def padded_convolution(
    model: ir.Model, layer: ir.Node, weight: NDArray[np.float32], bias: Sequence[ir.Value | None]
) -> list[ir.Node]:
    """A float convolution with the geometry of `layer`, of its first input.

    Args:
        model: Where constants are added.
        layer: A binary convolution of either level; it stays where it is.
        weight: [O, C / group, KH, KW].
        bias: One value, [O], or none.

    Returns:
        The convolution, behind a `Pad` where padded taps are not 0.
    """
    x, nodes = layer.inputs[0], []
    pads, pad_value = attribute(layer, "pads"), float(attribute(layer, "pad_value"))
    if pad_value != 0 and any(pads):
        operands = [
            add_initializer(model, f"{layer.name}.{name}", np.array(array, dtype))
            for name, array, dtype in (
                ("pads", pads, np.int64),
                ("pad_value", pad_value, np.float32),
                ("pad_axes", [2, 3], np.int64),
            )
        ]
        frame = ir.node("Pad", [x, *operands], {"mode": "constant"}, name=f"{layer.name}/pad")
        x, nodes, pads = frame.outputs[0], [frame], [0, 0, 0, 0]
    attributes = {name: attribute(layer, name) for name in ("strides", "dilations", "group")}
    attributes |= {"pads": pads, "kernel_shape": list(weight.shape[2:])}
    parameters = [add_initializer(model, f"{layer.name}.weight", weight), *bias]
    return [*nodes, ir.node("Conv", [x, *parameters], attributes, name=layer.name)]


def _to_linear(model: ir.Model, node: ir.Node, weight: NDArray[np.float32]) -> None:
    """weight: [O, C], ±alpha."""
    transposed = add_initializer(model, f"{node.name}.weight", np.ascontiguousarray(weight.T))
    product = ir.node("MatMul", [node.inputs[0], transposed], name=node.name)
    nodes = [product]
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        nodes.append(ir.node("Add", [product.outputs[0], node.inputs[2]], name=f"{node.name}/bias"))
    replace(node, nodes, nodes[-1].outputs[0])
