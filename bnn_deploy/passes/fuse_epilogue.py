r"""What follows a packed convolution in float moves into its epilogue, one op at a time.

    z = scale * acc + bias                 PackedConv2d
    Add(z, r), r a tensor of z's shape     + residual             a Bi-Real block's shortcut
    Add(z, c), c per channel               bias + c               the shift of an RPReLU behind the shortcut
    PRelu(z, s), LeakyRelu(z)              + slope                ReActNet's PReLU
    Add(PRelu(z), c)                       + shift                and the second shift of an RPReLU
    Relu(z), Clip(z, a, b)                 + clip_low, clip_high

Each is taken only where nothing else reads what it replaces. The order of the pieces is fixed (`opset.Epilogue`), so
what comes in another order stays outside. The arithmetic is the same float32 arithmetic in the same order, but for
constants that are added up beforehand, in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace as changed

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bnn_deploy import opset
from bnn_deploy.opset import CLIP, PRELU, Epilogue
from bnn_deploy.passes.activation import CLIPS, PRELUS, read_clip, read_slope
from bnn_deploy.passes.affine import read_affine
from bnn_deploy.passes.base import Declined, Pass, PassResult
from bnn_deploy.passes.graph import (
    add_rounded,
    attribute,
    exact_value,
    is_op,
    nodes_of,
    only_consumer,
    remove_unread,
    replace,
)

_BIAS = 3


class FuseEpiloguePass(Pass):
    """`PackedConv2d`, then `Add`, `PRelu`, `Relu` or `Clip`, becomes one op named by `opset.Epilogue`."""

    def call(self, model: ir.Model) -> PassResult:
        changes, declined = 0, []
        for node in nodes_of(model, *opset.EPILOGUES):
            layer: ir.Node | None = node
            while layer is not None:
                layer, reason = _fuse_next(model, layer)
                changes += layer is not None
                if reason:
                    declined.append(Declined(node.name or node.op_type, reason))
        return self.done(model, changes, declined)


_Fused = tuple[ir.Node | None, str]
"""(the fused node, "") or (None, why not; empty where there is nothing that could be fused)."""


def _fuse_next(model: ir.Model, layer: ir.Node) -> _Fused:
    epilogue, follower = opset.EPILOGUES[layer.op_type], only_consumer(layer.outputs[0])
    if epilogue.packs or follower is None:
        return None, ""
    if is_op(follower, "Add", "Sub", domain=""):
        shift = _constant_shift(layer, follower)
        if shift is not None:
            return _fuse_shift(model, layer, follower, epilogue, shift)
        return _fuse_residual(layer, follower, epilogue) if follower.op_type == "Add" else (None, "")
    if epilogue.activation:
        return None, ""
    if is_op(follower, *PRELUS, domain=""):
        return _fuse_prelu(model, layer, follower, epilogue)
    if is_op(follower, *CLIPS, domain=""):
        bounds = read_clip(follower)
        if bounds is None:
            return None, f"Clip {follower.name} stays: its bounds are not constant"
        clip = {"clip_low": float(bounds[0]), "clip_high": float(bounds[1])}
        return _rebuild(layer, follower, changed(epilogue, activation=CLIP), layer.inputs, clip), ""
    return None, ""


def _constant_shift(layer: ir.Node, follower: ir.Node) -> NDArray[np.float64] | None:
    """c of `Add(z, c)`, `Add(c, z)` or `Sub(z, c)`, [O]."""
    affine = read_affine(follower, len(exact_value(layer.inputs[_BIAS])))
    return affine.term - affine.centre if affine is not None and (affine.factor == 1).all() else None


def _fuse_shift(
    model: ir.Model, layer: ir.Node, follower: ir.Node, epilogue: Epilogue, shift: NDArray[np.float64]
) -> _Fused:
    if epilogue.activation == CLIP:
        return None, ""
    operands, name = list(layer.inputs), "shift" if epilogue.activation else "bias"
    index = _BIAS + 1 + epilogue.operands.index("shift") if epilogue.activation else _BIAS
    total = exact_value(operands[index]) + shift
    with np.errstate(over="ignore"):
        if not np.isfinite(total.astype(np.float32)).all():
            return None, f"{follower.op_type} {follower.name} stays: the sum of the constants is not finite in float32"
    layer.replace_input_with(index, None)
    remove_unread(operands[index])  # so that the sum can have its name
    operands[index] = add_rounded(model, f"{layer.name}.{name}", total)
    return _rebuild(layer, follower, epilogue, operands), ""


def _fuse_residual(layer: ir.Node, add: ir.Node, epilogue: Epilogue) -> _Fused:
    if epilogue.residual or epilogue.activation:
        return None, ""
    y = layer.outputs[0]
    other = add.inputs[1] if add.inputs[0] is y else add.inputs[0]
    if not _same_shape(y, other):
        name = other.name if other is not None else "its operand"
        return None, f"Add {add.name} stays: {name} is not known to have the shape of the layer's output"
    return _rebuild(layer, add, changed(epilogue, residual=True), [*layer.inputs, other]), ""


def _fuse_prelu(model: ir.Model, layer: ir.Node, follower: ir.Node, epilogue: Epilogue) -> _Fused:
    slope = read_slope(follower, len(exact_value(layer.inputs[_BIAS])))
    if slope is None:
        return None, f"{follower.op_type} {follower.name} stays: its slope is not one finite constant per channel"
    operands = [
        *layer.inputs,
        add_rounded(model, f"{layer.name}.slope", slope),
        add_rounded(model, f"{layer.name}.shift", np.zeros_like(slope)),
    ]
    return _rebuild(layer, follower, changed(epilogue, activation=PRELU), operands), ""


def _same_shape(first: ir.Value, second: ir.Value | None) -> bool:
    """Whether two tensors are known to have one shape; two sizes without a number or a name may differ."""
    if second is None or first.shape is None or second.shape is None or len(first.shape) != len(second.shape):
        return False
    known = all(isinstance(size, int) or size.value is not None for size in first.shape)
    return known and list(first.shape) == list(second.shape)


def _rebuild(
    layer: ir.Node,
    absorbed: ir.Node,
    epilogue: Epilogue,
    operands: Sequence[ir.Value | None],
    attributes: dict[str, float] | None = None,
) -> ir.Node:
    """The layer with other operands behind its epilogue's accumulator, where `absorbed` stood."""
    fused = ir.node(
        epilogue.op_type,
        operands,
        {name: attribute(layer, name) for name in layer.attributes} | (attributes or {}),
        domain=opset.DOMAIN,
        name=layer.name,
        metadata_props=dict(layer.metadata_props),
    )
    unread = list(absorbed.inputs)
    replace(absorbed, [fused], fused.outputs[0])
    remove_unread(*unread)
    return fused
