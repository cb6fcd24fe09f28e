"""Binarisations that no 1-bit layer reads become standard ONNX ops.

They stay in float because something else wants real numbers: a float convolution, an output, an addition.

    bipolar:   Where(x >= 0, 1, -1)
    unipolar:  Where(x > 0, 1, 0)
    ternary:   Where(x > 0, 1, Where(x >= 0, 0, -1))

`Sign` would not do: it makes 0 of 0 and NaN of NaN.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bnn_deploy import opset
from bnn_deploy.bits import Levels
from bnn_deploy.passes.base import Declined, Pass, PassResult
from bnn_deploy.passes.graph import add_initializer, attribute, nodes_of, replace


class LowerBinarizePass(Pass):
    """Replaces each remaining `Binarize` by comparisons and selections."""

    def call(self, model: ir.Model) -> PassResult:
        changes, declined = 0, []
        for node in nodes_of(model, opset.BINARIZE):
            if not node.outputs[0].uses() and not node.outputs[0].is_graph_output():
                continue  # dead; the clean-up after this pass takes it away
            readers = ", ".join(sorted({use.node.op_type for use in node.outputs[0].uses()})) or "the network's output"
            declined.append(
                Declined(node.name or node.op_type, f"stays float: it is read by {readers}, not by a 1-bit layer")
            )
            _lower(model, node)
            changes += 1
        return self.done(model, changes, declined)


def _lower(model: ir.Model, node: ir.Node) -> None:
    levels = Levels(attribute(node, "levels"))
    x = node.inputs[0]
    dtype = (x.dtype if x is not None and x.dtype is not None else ir.DataType.FLOAT).numpy()

    def level(name: str, value: int) -> ir.Value:
        return add_initializer(model, f"{node.name}.{name}", np.array(value, dtype))

    def select(name: str, condition: ir.Node, high: ir.Value, low: ir.Value) -> ir.Node:
        return ir.node("Where", [condition.outputs[0], high, low], name=f"{node.name}/{name}")

    def put(*nodes: ir.Node) -> None:
        nodes[-1].metadata_props[opset.PACK_NAME] = node.name or node.op_type
        replace(node, nodes, nodes[-1].outputs[0])

    zero, one = level("zero", 0), level("one", 1)
    low, nodes = zero, []
    if levels is not Levels.UNIPOLAR:
        not_negative = ir.node("GreaterOrEqual", [x, zero], name=f"{node.name}/not_negative")
        minus_one = level("minus_one", -1)
        if levels is Levels.BIPOLAR:
            chosen = select("level", not_negative, one, minus_one)
            put(not_negative, chosen)
            return
        not_positive = select("not_positive", not_negative, zero, minus_one)
        low, nodes = not_positive.outputs[0], [not_negative, not_positive]
    positive = ir.node("Greater", [x, zero], name=f"{node.name}/positive")
    chosen = select("level", positive, one, low)
    put(*nodes, positive, chosen)
