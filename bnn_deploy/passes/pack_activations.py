"""A binarised tensor that feeds 1-bit layers is packed once, 32 channels to a word, and those layers become binary.

    Binarize(x) -> y;  BinaryWeightConv2d(y, bits, scale, bias)
    becomes
    PackBipolar(x, t) -> p;  PackedConv2d(p, bits, scale, bias)

The values are the same: y takes the values of its levels, and p holds which. Other readers of y keep reading y. One
pack serves all the layers that read the same binarisation.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bnn_deploy import bits, opset
from bnn_deploy.bits import Levels
from bnn_deploy.passes.base import Declined, Pass, PassResult
from bnn_deploy.passes.graph import add_initializer, attribute, is_op, nodes_of, replace

_PACKED = {
    (opset.BINARY_WEIGHT_CONV2D, False): opset.PACKED_CONV2D,
    (opset.BINARY_WEIGHT_CONV2D, True): opset.PACKED_TERNARY_CONV2D,
    (opset.BINARY_WEIGHT_LINEAR, False): opset.PACKED_LINEAR,
    (opset.BINARY_WEIGHT_LINEAR, True): opset.PACKED_TERNARY_LINEAR,
}


class PackActivationsPass(Pass):
    """Packs what `Binarize` makes, for the 1-bit layers that read it; one with a float input is declined by name."""

    def call(self, model: ir.Model) -> PassResult:
        changes = 0
        for node in nodes_of(model, opset.BINARIZE):
            layers = [use.node for use in node.outputs[0].uses() if use.idx == 0 and _takes_activations(use.node)]
            if layers:
                _pack(model, node, layers)
                changes += len(layers)
        declined = [
            Declined(
                node.name or node.op_type,
                "its input is not binarised: the weights are 1-bit, the activations stay float",
            )
            for node in nodes_of(model, opset.BINARY_WEIGHT_CONV2D, opset.BINARY_WEIGHT_LINEAR)
        ]
        return self.done(model, changes, declined)


def _takes_activations(node: ir.Node) -> bool:
    return is_op(node, opset.BINARY_WEIGHT_CONV2D, opset.BINARY_WEIGHT_LINEAR)


def _pack(model: ir.Model, node: ir.Node, layers: list[ir.Node]) -> None:
    levels = Levels(attribute(node, "levels"))
    channels = int(attribute(layers[0], "channels"))
    x = node.inputs[0]
    operands = [x]
    if levels is not Levels.TERNARY:
        operands.append(add_initializer(model, f"{node.name}.threshold", np.zeros(1, np.float32)))
    pack = ir.node(opset.PACK_OPS[levels], operands, {"channels": channels}, domain=opset.DOMAIN, name=node.name)
    packed = pack.outputs[0]
    packed.name, packed.type = f"{node.name}.bits", ir.TensorType(ir.DataType.INT32)
    packed.shape = _packed_shape(x, levels, channels)
    if node.graph is None:
        raise ValueError(f"{node.name} belongs to no graph")
    node.graph.insert_after(node, pack)
    for layer in layers:
        attributes = {name: attribute(layer, name) for name in layer.attributes}
        if levels is not Levels.TERNARY:
            attributes["low"] = -1.0 if levels is Levels.BIPOLAR else 0.0
        op_type = _PACKED[layer.op_type, levels is Levels.TERNARY]
        binary = ir.node(op_type, [packed, *layer.inputs[1:]], attributes, domain=opset.DOMAIN, name=layer.name)
        replace(layer, [binary], binary.outputs[0])


def _packed_shape(x: ir.Value | None, levels: Levels, channels: int) -> ir.Shape | None:
    """[N, C, *spatial] -> [N, *spatial, words]."""
    if x is None or x.shape is None:
        return None
    return ir.Shape([x.shape[0], *x.shape[2:], levels.planes * bits.words_for(channels)])
