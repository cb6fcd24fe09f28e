"""A packed convolution writes the bits of the next layer itself, beside its float output.

    y = PackedConv2dAdd(...)                                  y, bits = PackedConv2dAddPack(..., lower, upper)
    bits = PackInterval(y, lower, upper)         becomes

y stays an output: the next shortcut may read it. Where nothing does, `chain_bits` goes on from here.
"""

from __future__ import annotations

from dataclasses import replace as changed

import onnx_ir as ir

from bnn_deploy import opset
from bnn_deploy.passes.base import Pass, PassResult
from bnn_deploy.passes.graph import attribute, is_op, nodes_of, remove_unread
from bnn_deploy.passes.interval import PACKS, add_bounds, read_interval


class FusePackPass(Pass):
    """A pack of a packed convolution's output becomes its second output. One for each convolution; others stay."""

    def call(self, model: ir.Model) -> PassResult:
        changes = 0
        for pack in nodes_of(model, *PACKS):
            layer = pack.inputs[0].producer() if pack.inputs[0] is not None else None
            if layer is None or not is_op(layer, *opset.EPILOGUES) or opset.EPILOGUES[layer.op_type].packs:
                continue
            _fuse(model, layer, pack)
            changes += 1
        return self.done(model, changes)


def _fuse(model: ir.Model, layer: ir.Node, pack: ir.Node) -> None:
    fused = ir.node(
        changed(opset.EPILOGUES[layer.op_type], packs=True).op_type,
        [*layer.inputs, *_bounds(model, pack)],
        {key: attribute(layer, key) for key in layer.attributes},
        domain=opset.DOMAIN,
        name=layer.name,
        num_outputs=2,
        metadata_props={**layer.metadata_props, opset.PACK_NAME: pack.name or pack.op_type},
    )
    graph, unread = layer.graph, list(pack.inputs[1:])
    if graph is None:
        raise ValueError(f"{layer.name} belongs to no graph")
    # The pack stands behind the layer, and everything that reads its bits behind the pack.
    ir.convenience.replace_nodes_and_values(
        graph, layer, [layer, pack], [fused], [layer.outputs[0], pack.outputs[0]], list(fused.outputs)
    )
    remove_unread(*unread)


def _bounds(model: ir.Model, pack: ir.Node) -> list[ir.Value]:
    """lower and upper, [O] each: those that a `PackInterval` has, new ones for other packs."""
    interval = read_interval(pack)
    found = [value for value in pack.inputs[1:] if value is not None and value.shape == interval.lower.shape]
    return found if is_op(pack, opset.PACK_INTERVAL) and len(found) == 2 else add_bounds(model, pack, interval)
