"""Packed convolutions of one input, joined along the channels, become one with the outputs of all.

    Concat(PackedConv2d(p, w1, ...), PackedConv2d(p, w2, ...))   becomes   PackedConv2d(p, [w1; w2], ...)

ReActNet doubles its channels so. The outputs of a convolution are independent of each other, so nothing else changes.
With shortcuts, `[r1; r2]` is what is added.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bnn_deploy import opset
from bnn_deploy.passes.base import Pass, PassResult
from bnn_deploy.passes.graph import (
    add_initializer,
    add_rounded,
    attribute,
    constant,
    exact_value,
    is_op,
    nodes_of,
    only_consumer,
    remove_unread,
    replace,
)

_MERGED = tuple(op_type for op_type, epilogue in opset.EPILOGUES.items() if not epilogue.packs)


class MergeTwinsPass(Pass):
    """Merges the packed convolutions that a `Concat` over channels joins, where each reads the same bits."""

    def call(self, model: ir.Model) -> PassResult:
        changes = 0
        for join in nodes_of(model, "Concat", domain=""):
            layers = _twins(join)
            if layers:
                _merge(model, join, layers)
                changes += 1
        return self.done(model, changes)


def _twins(join: ir.Node) -> list[ir.Node]:
    """The convolutions that `join` joins, if they can be one."""
    layers = [value.producer() if value is not None else None for value in join.inputs]
    first = layers[0] if layers else None
    if attribute(join, "axis") not in (1, -3) or len(layers) < 2 or first is None or not is_op(first, *_MERGED):
        return []
    alike = [layer for layer in layers if layer is not None and _are_alike(first, layer, join)]
    return alike if len(alike) == len(layers) else []


def _are_alike(first: ir.Node, other: ir.Node, join: ir.Node) -> bool:
    """Whether `other` differs from `first` in its weights and what is per channel alone, and `join` alone reads it."""
    if not is_op(other, first.op_type) or only_consumer(other.outputs[0]) is not join:
        return False
    attributes = [{name: attribute(layer, name) for name in layer.attributes} for layer in (first, other)]
    weights = [constant(layer.inputs[1]) for layer in (first, other)]
    kernels = [array.shape[1:] if array is not None else None for array in weights]
    return (
        other.inputs[0] is first.inputs[0]
        and attributes[0] == attributes[1]
        and attributes[0].get("group", 1) == 1
        and kernels[0] is not None
        and kernels[0] == kernels[1]
    )


def _merge(model: ir.Model, join: ir.Node, layers: list[ir.Node]) -> None:
    first = layers[0]
    parts = [layer.metadata_props.get(opset.LAYER_NAMES, layer.name or layer.op_type) for layer in layers]
    name = "+".join(",".join(parts).split(","))
    weights = [constant(layer.inputs[1]) for layer in layers]
    stacked = np.concatenate([array for array in weights if array is not None])
    before, operands = [], [first.inputs[0], add_initializer(model, f"{name}.weight_bits", stacked)]
    for index, label in enumerate(("scale", "bias", *opset.EPILOGUES[first.op_type].operands), start=2):
        if label == "residual":
            shortcuts = _joined(join, [layer.inputs[index] for layer in layers], f"{name}/shortcuts")
            before.append(shortcuts)
            operands.append(shortcuts.outputs[0])
        else:
            exact = np.concatenate([exact_value(layer.inputs[index]) for layer in layers])
            operands.append(add_rounded(model, f"{name}.{label}", exact))
    merged = ir.node(
        first.op_type,
        operands,
        {key: attribute(first, key) for key in first.attributes},
        domain=opset.DOMAIN,
        name=name,
        metadata_props={opset.LAYER_NAMES: ",".join(parts)},
    )
    unread = list(join.inputs)
    replace(join, [*before, merged], merged.outputs[0])
    remove_unread(*unread)


def _joined(join: ir.Node, values: list[ir.Value | None], name: str) -> ir.Node:
    """The shortcuts, joined as `join` joins what they are added to."""
    shortcuts = ir.node("Concat", values, {"axis": 1}, name=name)
    output, like = shortcuts.outputs[0], join.outputs[0]
    output.name, output.type, output.shape = name, like.type, like.shape
    return shortcuts
