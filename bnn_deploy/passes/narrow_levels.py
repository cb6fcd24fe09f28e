"""`torch.sign` of values that are never negative has two levels, not three: ternary becomes unipolar, {0, 1}.

A ReLU, a sigmoid, a clamp from 0, and everything that pooling, reshaping, adding or joining makes of such values, is
never negative. What cannot be shown to be so stays ternary, which is exact for any input and takes a second plane of
bits.

NaN is the lesser level of either kind: -1 when ternary, 0 when unipolar.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bnn_deploy import opset
from bnn_deploy.passes.activation import read_clip
from bnn_deploy.passes.base import Declined, Pass, PassResult
from bnn_deploy.passes.graph import add_initializer, attribute, nodes_of, replace

_ALWAYS = ("Relu", "Sigmoid", "HardSigmoid", "Softmax", "Softplus", "Abs", "Exp", "Sqrt")
# Not negative where their first input is not.
_KEEP = (
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "Identity",
    "Reshape",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Transpose",
    "Expand",
    "ReduceMean",
    "ReduceMax",
    "ReduceSum",
    "Slice",
)
# Not negative where none of their inputs is.
_JOIN = ("Concat", "Add", "Mul", "Sum", "Max", "Min")
_PACKED = {
    opset.PACKED_TERNARY_CONV2D: opset.PACKED_CONV2D,
    opset.PACKED_TERNARY_LINEAR: opset.PACKED_LINEAR,
}


class NarrowLevelsPass(Pass):
    """`PackTernary(x)` with x >= 0 becomes `PackUnipolar(x, 0)`, and the layers that read it follow."""

    def call(self, model: ir.Model) -> PassResult:
        changes, declined = 0, []
        for pack in nodes_of(model, opset.PACK_TERNARY):
            if never_negative(pack.inputs[0]):
                _narrow(model, pack)
                changes += 1
            else:
                declined.append(Declined(pack.name or pack.op_type, _why_ternary(pack)))
        return self.done(model, changes, declined)


def never_negative(value: ir.Value | None) -> bool:
    """Whether a tensor is known to hold no negative number. NaN does not count as one."""
    pending, seen = [value], set()
    while pending:
        current = pending.pop()
        if current in seen:
            continue
        seen.add(current)
        sources = _not_negative_where(current)
        if sources is None:
            return False
        pending.extend(sources)
    return True


def _not_negative_where(value: ir.Value | None) -> list[ir.Value | None] | None:
    """The tensors that must not be negative so that `value` is not either; None where nothing is known."""
    if value is None:
        return None
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is not None:
        return [] if bool((tensor.numpy() >= 0).all()) else None
    node = value.producer()
    if node is None or node.domain != "":
        return None
    if node.op_type == "Clip":
        bounds = read_clip(node)
        if bounds is None or bounds[1] < 0:
            return None
        return [] if bounds[0] >= 0 else [node.inputs[0]]
    if node.op_type in _ALWAYS:
        return []
    if node.op_type in _KEEP:
        return [node.inputs[0]]
    return list(node.inputs) if node.op_type in _JOIN else None


def _why_ternary(pack: ir.Node) -> str:
    producer = pack.inputs[0].producer() if pack.inputs[0] is not None else None
    source = f"{producer.op_type} {producer.name}" if producer is not None else "an input of the network"
    return (
        f"stays ternary, two bits a value: {source} can be negative, and sign(0) = 0; --sign-zero one makes it one bit"
    )


def _narrow(model: ir.Model, pack: ir.Node) -> None:
    threshold = add_initializer(model, f"{pack.name}.threshold", np.zeros(1, np.float32))
    channels, layers = int(attribute(pack, "channels")), pack.outputs[0].consumers()
    narrow = ir.node(
        opset.PACK_UNIPOLAR, [pack.inputs[0], threshold], {"channels": channels}, domain=opset.DOMAIN, name=pack.name
    )
    original = pack.outputs[0].shape
    if original is not None:
        words = original[-1]
        narrow.outputs[0].shape = ir.Shape([*original[:-1], words // 2 if isinstance(words, int) else None])
    replace(pack, [narrow], narrow.outputs[0])
    for layer in layers:
        attributes = {name: attribute(layer, name) for name in layer.attributes} | {"low": 0.0}
        binary = ir.node(
            _PACKED[layer.op_type],
            layer.inputs,
            attributes,
            domain=opset.DOMAIN,
            name=layer.name,
            metadata_props=dict(layer.metadata_props),
        )
        replace(layer, [binary], binary.outputs[0])
