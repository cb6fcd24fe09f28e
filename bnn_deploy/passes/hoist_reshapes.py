"""Moves ops that only move elements above the binarisation they follow.

    Reshape(Binarize(x)) = Binarize(Reshape(x))          Shape(Binarize(x)) = Shape(x)

for Binarize acts on each element alone. Without this, `sign(x).flatten(1)` before a fully connected layer, or the rows
that `pack_weights` gathers for one, would hide the binarisation from `pack_activations` and the layer would keep float
activations.
"""

from __future__ import annotations

import onnx_ir as ir

from bnn_deploy import opset
from bnn_deploy.passes.base import Declined, Pass, PassResult
from bnn_deploy.passes.graph import attribute, is_op, nodes_of, replace

_MOVES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity")
_LAYERS = (opset.BINARY_CONV2D, opset.BINARY_LINEAR, opset.BINARY_WEIGHT_CONV2D, opset.BINARY_WEIGHT_LINEAR)


class HoistReshapesPass(Pass):
    """`Move(Binarize(x))` becomes `Binarize(Move(x))` where a 1-bit layer reads the result.

    Declined where another 1-bit layer, or another move, reads the same binarisation: it would have to be packed twice,
    in two shapes, and a binarisation is one node with one name.
    """

    def call(self, model: ir.Model) -> PassResult:
        changes, declined = 0, []
        for node in nodes_of(model, opset.BINARIZE):
            changes += _read_shape_above(node)
        for layer in nodes_of(model, *_LAYERS):
            while (move := _move_below_binarize(layer)) is not None:
                if _is_shared(move):
                    reason = f"a {move.op_type} and others read its binarised input; binarise after the {move.op_type}"
                    declined.append(Declined(layer.name or layer.op_type, reason))
                    break
                _hoist(move)
                changes += 1
        return self.done(model, changes, declined)


def _read_shape_above(binarize: ir.Node) -> int:
    """Lets `Shape` read what is binarised instead. Returns how many did."""
    readers = [use.node for use in binarize.outputs[0].uses() if is_op(use.node, "Shape", domain="")]
    for reader in readers:
        reader.replace_input_with(0, binarize.inputs[0])
    return len(readers)


def _move_below_binarize(layer: ir.Node) -> ir.Node | None:
    """Of the moves between the layer and its binarisation, the one that reads the binarisation."""
    value = layer.inputs[0]
    move = None
    while value is not None and is_op(value.producer(), *_MOVES, domain=""):
        move = value.producer()
        if move is None:
            return None
        value = move.inputs[0]
    return move if value is not None and is_op(value.producer(), opset.BINARIZE) else None


def _is_shared(move: ir.Node) -> bool:
    """Whether something else that could be packed reads the binarisation that `move` reads."""
    binarized = move.inputs[0]
    readers = [use.node for use in binarized.uses()] if binarized is not None else []
    return any(
        reader is not move and (is_op(reader, *_LAYERS) or is_op(reader, *_MOVES, domain="")) for reader in readers
    )


def _hoist(move: ir.Node) -> None:
    binarized = move.inputs[0]
    binarize = binarized.producer() if binarized is not None else None
    if binarize is None:
        raise ValueError(f"{move.name} does not follow a binarisation")
    moved = ir.node(
        move.op_type,
        [binarize.inputs[0], *move.inputs[1:]],
        {name: attribute(move, name) for name in move.attributes},
        name=move.name,
    )
    original = move.outputs[0]
    moved.outputs[0].name, moved.outputs[0].type = f"{original.name}.real", original.type
    moved.outputs[0].shape = original.shape
    attributes = {name: attribute(binarize, name) for name in binarize.attributes}
    again = ir.node(opset.BINARIZE, [moved.outputs[0]], attributes, domain=opset.DOMAIN, name=binarize.name)
    replace(move, [moved, again], again.outputs[0])
