r"""Everything that is not 1-bit becomes float16, and the 1-bit layers read and write it.

    Conv(x, w)  ->  Conv(x16, round16(w))                PackedConv2dAdd(...)  ->  PackedConv2dAddFp16(...)

Inputs and outputs of the network stay float32, with one `Cast` where something in float16 reads or makes them. What was
folded into a constant was folded in float64; it is rounded once, from there to float16. So is BatchNorm: the factor and
the term of each channel stand where its four parameters were. The operands of 1-bit layers, their accumulators and
their epilogues stay as they are: see `docs/operators.md`.

An operator stays in float32, between casts, where float16 would do more harm than rounding:

- a constant of it overflows, or loses more than the unit roundoff 2^-11: of itself, or for the weights of a sum, of the
  largest weight of the same output, beside which a tiny one does not matter;
- it is known for results beyond 65504 (`float16.WIDE_RANGE`);
- a 1-bit layer can reach them, or never leaves the subnormals: |scale[o]| * K + |bias[o]| bounds a sum over K taps.

What computes nothing (a reshape, a concatenation) has the type of what it is given, so that values go through no cast
that the next node undoes. Comparisons are exact: float32 unless both sides are float16 as they are.
"""

from __future__ import annotations

from math import prod

import numpy as np
import onnx_ir as ir

from bnn_deploy import opset
from bnn_deploy.passes.affine import read_affine
from bnn_deploy.passes.base import Declined, Pass, PassResult
from bnn_deploy.passes.casts import Casts
from bnn_deploy.passes.float16 import (
    LARGEST,
    SMALLEST_NORMAL,
    WIDE_RANGE,
    Signature,
    is_float,
    is_float16,
    loss,
    reference,
    rounded,
)
from bnn_deploy.passes.graph import add_initializer, attribute, constant, is_op, remove_unread


class LowerPrecisionPass(Pass):
    """Converts the float rest to float16, node by node, and notes the precision in the file's metadata."""

    def call(self, model: ir.Model) -> PassResult:
        lowering = _Lowering(model)
        for node in list(model.graph):
            if not any(is_float16(value) for value in node.outputs):  # else that is done
                lowering.visit(node)
        changes = lowering.changes + lowering.casts.restore_outputs()
        if model.metadata_props.get(opset.PRECISION) != opset.FP16:
            model.metadata_props[opset.PRECISION] = opset.FP16
            changes += 1
        return self.done(model, changes, lowering.declined)


class _Lowering:
    """One walk over a graph, in its order: what a node reads has its final type when its turn comes."""

    def __init__(self, model: ir.Model) -> None:
        self.changes = 0
        self.declined: list[Declined] = []
        self.casts = Casts(model)
        self._model = model
        self._version = model.graph.opset_imports.get("", opset.ONNX_OPSET)

    def visit(self, node: ir.Node) -> None:
        """Lowers `node`, or gives it the float32 that it wants."""
        if is_op(node, *opset.FLOAT_OPS):
            return self.casts.widen_all(node)  # of float32 alone
        if node.domain == opset.DOMAIN:
            if node.op_type in opset.FLOAT16_OPS:
                self._visit_layer(node)
            return  # packing reads either type, and the rest knows no floats
        if node.domain not in ("", "ai.onnx") or self.casts.has_subgraphs(node):
            return self.casts.widen_all(node)
        Signature(node, self._version).settle(node)
        if self.casts.is_constant_node(node) or node.op_type in ("Shape", "Size"):
            return None  # whoever reads a constant converts it; a shape has none of the types
        if is_op(node, "Cast", domain=""):
            return self._visit_cast(node)
        if not any(is_float(value) for value in node.outputs):
            return self._visit_comparison(node)
        if is_op(node, "BatchNormalization", domain=""):
            return self._visit_batch_norm(node)
        return self._visit_standard(node)

    def _visit_layer(self, node: ir.Node) -> None:
        y = node.outputs[0]
        reason = _cannot_write(node)
        if reason:
            self._decline(node, reason)
        elif y.is_graph_output() and not y.uses():
            self.casts.widen_all(node)  # an output is float32: without a cast, and not rounded
        else:
            operands = _real_operands(node)
            node.op_type = opset.FLOAT16_OPS[node.op_type]
            self._lower(node, operands)

    def _visit_cast(self, node: ir.Node) -> None:
        """From truth values to float16 at once; other casts read what there is and write what they wrote."""
        x = node.inputs[0]
        if attribute(node, "to") == ir.DataType.FLOAT and x is not None and x.dtype == ir.DataType.BOOL:
            node.attributes["to"] = ir.AttrInt64("to", int(ir.DataType.FLOAT16))
            self._lower(node, [])

    def _visit_comparison(self, node: ir.Node) -> None:
        """No output is float: comparisons, searches, tests."""
        operands = [i for i, value in enumerate(node.inputs) if is_float(value)]
        wide = [i for i in operands if not is_float16(node.inputs[i])]
        if len(wide) == len(operands):
            return None
        arrays = [self.casts.constant(node.inputs[i]) for i in wide]
        if any(array is None or (array != rounded(array)).any() for array in arrays):
            return self.casts.widen_all(node)
        self._narrow(node, wide)
        self.changes += bool(wide)
        return None

    def _visit_batch_norm(self, node: ir.Node) -> None:
        """y = k * (x - m) + b = k * x + (b - k * m): mean 0 and variance 1, for nothing else is exact in float16."""
        shape = node.inputs[1].shape if node.inputs[1] is not None else None
        affine = read_affine(node, 0) if shape is not None else None
        if affine is None:
            return self._decline(node, "its parameters are not constant and finite")
        factor, term = affine.factor, affine.term - affine.factor * affine.centre
        reason = loss(factor) or loss(term, np.inf)
        if reason:
            return self._decline(node, reason)
        parameters = (factor, term, np.zeros_like(factor), np.ones_like(factor))
        old = list(node.inputs[1:])
        for index, (label, array) in enumerate(zip(("factor", "term", "mean", "variance"), parameters, strict=True), 1):
            made = add_initializer(self._model, f"{node.name}.{label}", array.astype(np.float16))
            node.replace_input_with(index, made)
        remove_unread(*old)
        node.attributes["epsilon"] = ir.AttrFloat32("epsilon", 0.0)
        return self._lower(node, [0])

    def _visit_standard(self, node: ir.Node) -> None:
        signature = Signature(node, self._version)
        types = {signature.output(i) for i, value in enumerate(node.outputs) if is_float(value)}
        shared = types.pop() if len(types) == 1 else ""
        if shared not in signature.free:
            return self.casts.widen_all(node)  # the standard has no float16 for it
        operands = [i for i, value in enumerate(node.inputs) if is_float(value) and signature.input(i) == shared]
        if signature.moves_data and not self._is_given_float16(node, operands):
            return self.casts.widen_all(node)
        reason = "its results may leave the range of float16" if node.op_type in WIDE_RANGE else ""
        for index in operands:
            array = self.casts.constant(node.inputs[index])
            if array is not None and not reason:
                reason = loss(array, reference(node, index, array), saturates=node.op_type == "Clip")
        if reason:
            return self._decline(node, reason)
        return self._lower(node, operands)

    def _is_given_float16(self, node: ir.Node, operands: list[int]) -> bool:
        """Whether any tensor is float16, or where all are constants, whether they fit exactly."""
        values = [node.inputs[i] for i in operands]
        arrays = [self.casts.constant(value) for value in values]
        if all(array is not None for array in arrays):
            return all((array == rounded(array)).all() for array in arrays if array is not None)
        return any(is_float16(value) for value in values)

    def _lower(self, node: ir.Node, operands: list[int]) -> None:
        self._narrow(node, operands)
        for value in node.outputs:
            if is_float(value):
                value.type = ir.TensorType(ir.DataType.FLOAT16)  # a new one: tensors may share theirs
        self.changes += 1

    def _narrow(self, node: ir.Node, operands: list[int]) -> None:
        for index in operands:
            self.casts.narrow(node, index)

    def _decline(self, node: ir.Node, reason: str) -> None:
        self.declined.append(Declined(node.name or node.op_type, f"{node.op_type} stays float32: {reason}"))
        self.casts.widen_all(node)


def _real_operands(layer: ir.Node) -> list[int]:
    """Where a layer reads real tensors: x of one with float activations, the shortcut behind scale and bias."""
    if layer.op_type in (opset.BINARY_WEIGHT_CONV2D, opset.BINARY_WEIGHT_LINEAR):
        return [0]
    epilogue = opset.EPILOGUES.get(layer.op_type)
    return [4] if epilogue is not None and epilogue.residual else []


def _cannot_write(layer: ir.Node) -> str:
    """Why the output of a packed layer is better kept in float32; empty where nothing speaks against float16."""
    bound = _largest_output(layer)
    if bound > LARGEST:
        return f"its output can reach {bound:.4g}, and float16 ends at {LARGEST:g}"
    if 0 < bound < SMALLEST_NORMAL:
        return f"its output stays below {bound:.4g}, where float16 has lost its digits"
    return ""


def _largest_output(layer: ir.Node) -> float:
    """A bound of what a layer can write, shortcuts aside; 0 where none is known."""
    weight, scale, bias = (constant(value) for value in layer.inputs[1:4])
    if layer.op_type in (opset.BINARY_WEIGHT_CONV2D, opset.BINARY_WEIGHT_LINEAR):
        return 0.0
    if weight is None or scale is None or bias is None:
        return 0.0
    taps = attribute(layer, "channels") // attribute(layer, "group", 1) * prod(weight.shape[1:-1])
    bound = np.abs(scale.astype(np.float64)) * taps + np.abs(bias.astype(np.float64))
    low, high = attribute(layer, "clip_low"), attribute(layer, "clip_high")
    limit = np.inf if low is None else max(abs(low), abs(high))
    return float(np.minimum(bound, limit).max(initial=0.0))
