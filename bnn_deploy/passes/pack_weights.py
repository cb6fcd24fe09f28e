r"""Training-level layers become deploy-level ones whose weights are bits.

A layer computes `conv(x, alpha * sign(w)) + bias` with latent weights w. Since alpha is constant over the taps of an
output channel,

    conv(x, alpha[o] * sign(w))[o] + bias[o] = alpha[o] * conv(x, sign(w))[o] + bias[o]

so the file needs sign(w), one bit each, and per output channel a scale and a bias. alpha is the mean of
|clamp(w, -1, 1)| (or of |w|), taken in float64 and rounded once at the end.

The result is `BinaryWeightConv2d` / `BinaryWeightLinear`: 1-bit weights, float activations. `pack_activations` then
turns those whose input is binarised into fully binary layers; what stays is a W1A16 layer.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bnn_deploy import opset
from bnn_deploy.bits import pack_bits
from bnn_deploy.errors import InputRefused
from bnn_deploy.passes.base import Pass, PassResult
from bnn_deploy.passes.graph import add_initializer, add_rounded, attribute, constant, nodes_of, replace

_CONV_ATTRIBUTES = ("strides", "pads", "dilations", "group", "pad_value")


class PackWeightsPass(Pass):
    """`BinaryConv2d(x, w[, b])` becomes `BinaryWeightConv2d(x, bits, scale, bias)`, likewise `BinaryLinear`.

    Raises:
        InputRefused: The weights are not constant, not finite, not float32, or exactly 0 in a layer where sign(0) is 0.
    """

    def call(self, model: ir.Model) -> PassResult:
        changes = 0
        for node in nodes_of(model, opset.BINARY_CONV2D, opset.BINARY_LINEAR):
            latent = _latent_weights(node)
            scale = weight_scale(latent, attribute(node, "weight_scale"), bool(attribute(node, "weight_clamp")))
            _replace_layer(model, node, latent >= 0, scale, _bias(node, latent.shape[0]))
            changes += 1
        return self.done(model, changes)


def weight_scale(latent: NDArray[np.floating], kind: str, clamp: bool) -> NDArray[np.float64]:
    """alpha per output channel, in float64. latent: [O, ...] -> [O]."""
    magnitude = np.abs(latent.astype(np.float64)).reshape(latent.shape[0], -1)
    if clamp:
        magnitude = np.minimum(magnitude, 1.0)
    if kind == "channel":
        return magnitude.mean(axis=1)
    return np.full(latent.shape[0], magnitude.mean() if kind == "tensor" else 1.0)


def _latent_weights(node: ir.Node) -> NDArray[np.float32]:
    where = node.name or node.op_type
    latent = constant(node.inputs[1])
    if latent is None:
        raise InputRefused(
            where, "the weights are computed from the network's input", "constant weights", "bind them before exporting"
        )
    if latent.dtype != np.float32:
        raise InputRefused(where, f"weights of type {latent.dtype}", "float32", "call model.float() before exporting")
    bad = int((~np.isfinite(latent)).sum())
    if bad:
        raise InputRefused(
            where, f"{bad} of {latent.size} weights are NaN or infinite", "finite weights", "check the checkpoint"
        )
    zeros = int((latent == 0).sum())
    if zeros and attribute(node, "weight_zero") == "zero":
        raise InputRefused(
            where,
            f"weight has {zeros} exact zeros of {latent.size}, and sign(0) is 0 in this layer",
            "a 1-bit weight, which has no zero",
            'pass --sign-zero one (zero="one") to round them up to +1',
        )
    return latent


def _bias(node: ir.Node, outputs: int) -> NDArray[np.float64]:
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return np.zeros(outputs)
    bias = constant(node.inputs[2])
    if bias is None:
        raise InputRefused(
            node.name or node.op_type, "the bias is computed from the network's input", "a constant bias"
        )
    return bias.astype(np.float64)


def _replace_layer(
    model: ir.Model, node: ir.Node, positive: NDArray[np.bool_], scale: NDArray[np.float64], bias: NDArray[np.float64]
) -> None:
    """positive: [O, Cg, KH, KW] or [O, C] bool."""
    is_conv = node.op_type == opset.BINARY_CONV2D
    groups = int(attribute(node, "group", 1))
    attributes = {key: attribute(node, key) for key in _CONV_ATTRIBUTES} if is_conv else {}
    attributes["channels"] = positive.shape[1] * groups
    x = node.inputs[0]
    operands = [
        x,
        add_initializer(model, f"{node.name}.weight_bits", pack_bits(np.moveaxis(positive, 1, -1))),
        add_rounded(model, f"{node.name}.scale", scale),
        add_rounded(model, f"{node.name}.bias", bias),
    ]
    op_type = opset.BINARY_WEIGHT_CONV2D if is_conv else opset.BINARY_WEIGHT_LINEAR
    before, after = ([], []) if is_conv else _as_rows(model, node, positive.shape)
    if before:
        operands[0] = before[-1].outputs[0]
    layer = ir.node(op_type, operands, attributes, domain=opset.DOMAIN, name=node.name)
    if after:
        after[-1].replace_input_with(0, layer.outputs[0])
    replace(node, [*before, layer, *after], (after or [layer])[-1].outputs[0])


def _as_rows(model: ir.Model, node: ir.Node, weight_shape: tuple[int, ...]) -> tuple[list[ir.Node], list[ir.Node]]:
    """The deploy ops take [N, C]. For [..., C] the rows are gathered before and the leading axes restored after."""
    x = node.inputs[0]
    if x is None or (x.shape is not None and len(x.shape) == 2):
        return [], []
    outputs, channels = weight_shape
    rows = add_initializer(model, f"{node.name}.rows", np.array([-1, channels], np.int64))
    width = add_initializer(model, f"{node.name}.width", np.array([outputs], np.int64))
    gather = ir.node("Reshape", [x, rows], name=f"{node.name}/rows")
    gather.outputs[0].name = f"{node.name}/rows"
    leading = ir.node("Shape", [x], {"start": 0, "end": -1}, name=f"{node.name}/leading")
    shape = ir.node("Concat", [leading.outputs[0], width], {"axis": 0}, name=f"{node.name}/shape")
    # The first input is set by the caller, once the layer between exists.
    restore = ir.node("Reshape", [None, shape.outputs[0]], name=f"{node.name}/restore")
    return [leading, shape, gather], [restore]
