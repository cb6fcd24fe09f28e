r"""BatchNorm after a 1-bit layer disappears into the layer's scale and bias.

With the layer's epilogue `y = scale * acc + bias` and BatchNorm in evaluation mode, per output channel,

    gamma * (y - mean) / sqrt(var + eps) + beta = (k * scale) * acc + (k * (bias - mean) + beta)

    k = gamma / sqrt(var + eps)

It holds for every gamma: negative (scale changes sign) and 0 (scale 0, bias beta). Derived in float64, rounded once.
"""

from __future__ import annotations

import onnx_ir as ir

from bnn_deploy import opset
from bnn_deploy.passes.affine import read_batch_norm
from bnn_deploy.passes.base import Declined, Pass, PassResult
from bnn_deploy.passes.epilogue import declines_to_fold, followed_by, read_epilogue, unrepresentable, write_epilogue
from bnn_deploy.passes.graph import attribute, constant, is_op, nodes_of


class FoldBatchNormPass(Pass):
    """`BatchNormalization(layer(...))` becomes `layer(...)` with another scale and bias."""

    def call(self, model: ir.Model) -> PassResult:
        changes, declined = 0, []
        for norm in nodes_of(model, "BatchNormalization", domain=""):
            layer = norm.inputs[0].producer() if norm.inputs[0] is not None else None
            if layer is None or not is_op(layer, *opset.LAYER_OPS):
                continue
            reason = declines_to_fold(layer) or _cannot_fold(norm)
            if not reason:
                epilogue = followed_by(read_epilogue(layer), read_batch_norm(norm))
                reason = unrepresentable(epilogue)
            if reason:
                where = layer.name or layer.op_type
                declined.append(Declined(where, f"BatchNorm {norm.name} was not folded: {reason}"))
                continue
            write_epilogue(model, layer, epilogue, absorbed=norm)
            changes += 1
        return self.done(model, changes, declined)


def _cannot_fold(norm: ir.Node) -> str:
    if attribute(norm, "training_mode", 0):
        return "it is in training mode; call model.eval() before exporting"
    if any(constant(operand) is None for operand in norm.inputs[1:5]):
        return "its parameters are not constant"
    return ""
