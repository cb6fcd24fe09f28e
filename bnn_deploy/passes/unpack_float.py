r"""Back from the deployed ops to standard float ones: the float network of a file whose origin is not at hand.

The deploy-level counterpart of `expand_float`, and as that for comparison only. Bits become real tensors of levels, so
that what stood for 32 channels in a word is 32 floats again:

    Pack(x)                     -> Where(x >= threshold, 1, low)
    PackedConv2d...(x, w, ...)  -> Conv(Pad(x), scale * sign(w), bias) [+ residual] [PRelu + shift | Clip] [Where(...)]
    PackedLinear(x, w, ...)     -> Gemm(x, scale * sign(w), bias)
    PackedMaxPool2d(x, flip)    -> s * MaxPool(s * x), s = -1 where flip is 1

What the passes folded stays folded: BatchNorms are in scale, bias and thresholds. So this network has no more to do
than the one that stock tools export, and is a fair one to compare with.

A bound on one side alone is one comparison: `x <= u` is `-x >= -u`, exact in floating point.

Everything real is float32: in a file of float16, `widen_precision` comes first. `split_float` does, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bnn_deploy import opset
from bnn_deploy.bits import Levels, unpack_bits
from bnn_deploy.errors import InputRefused
from bnn_deploy.passes.base import Pass, PassResult
from bnn_deploy.passes.expand_float import padded_convolution
from bnn_deploy.passes.graph import add_initializer, attribute, constant, nodes_of

_PACKS = (*opset.PACK_OPS.values(), opset.PACK_INTERVAL)
_LINEAR = (*opset.LINEAR_OPS, opset.PACKED_LINEAR_BITS)
UNBOUNDED = 2.0**24  # a bound of an accumulator beyond this says "always" or "never"


class UnpackFloatPass(Pass):
    """Replaces every deploy-level op on bits by standard float ones, and drops the function bodies."""

    def call(self, model: ir.Model) -> PassResult:
        changes = 0
        for node in nodes_of(model, *_PACKS, *opset.WEIGHT_OPS, opset.PACKED_MAX_POOL2D):
            step = _Unpacking(model, node)
            if node.op_type in _PACKS:
                step.pack()
            elif node.op_type == opset.PACKED_MAX_POOL2D:
                step.pool()
            else:
                step.layer()
            step.replace()
            changes += 1
        model.functions.clear()
        model.graph.opset_imports.pop(opset.DOMAIN, None)
        return self.done(model, changes)


class _Unpacking:
    """One node on its way: `nodes` take its place, `outputs` that of its outputs."""

    def __init__(self, model: ir.Model, node: ir.Node) -> None:
        self.model, self.node = model, node
        self.nodes: list[ir.Node] = []
        self.outputs: list[ir.Value] = []

    def pack(self) -> None:
        x, written = self.node.inputs[0], self.node.outputs[0]
        if self.node.op_type == opset.PACK_OPS[Levels.TERNARY]:
            self.outputs.append(self._op("Sign", x))
        elif self.node.op_type == opset.PACK_INTERVAL:
            self.outputs.append(self._interval(x, self._operand(1), self._operand(2), written))
        else:
            compare = "Greater" if self.node.op_type == opset.PACK_OPS[Levels.UNIPOLAR] else "GreaterOrEqual"
            self.outputs.append(self._levels(self._op(compare, x, self._channels(self._operand(1), written)), written))

    def pool(self) -> None:
        flip = unpack_bits(self._operand(1), attribute(self.node, "channels"))
        turn = self._channels(np.where(flip, -1.0, 1.0), self.node.outputs[0]) if flip.any() else None
        x = self.node.inputs[0] if turn is None else self._op("Mul", self.node.inputs[0], turn)
        kept = {name: attribute(self.node, name) for name in ("kernel_shape", "strides", "pads")}
        pooled = self._op("MaxPool", x, **kept)
        self.outputs.append(pooled if turn is None else self._op("Mul", pooled, turn))

    def layer(self) -> None:
        node, bits_only = self.node, self.node.op_type in opset.BITS_OPS
        epilogue = opset.EPILOGUES.get(node.op_type, opset.Epilogue())
        scale = np.ones(1) if bits_only else self._operand(2)
        z = self._product(scale, None if bits_only else node.inputs[3])
        if bits_only:
            lower, upper = (_unbounded(self._operand(index)) for index in (2, 3))
            self.outputs.append(self._interval(z, lower, upper, node.outputs[0]))
            return
        operands = dict(zip(epilogue.operands, node.inputs[4:], strict=True))
        if epilogue.residual:
            z = self._op("Add", z, operands["residual"])
        z = self._activation(z, epilogue.activation, operands)
        self.outputs.append(z)
        if epilogue.packs:
            lower, upper = (self._operand(index) for index in (-2, -1))
            self.outputs.append(self._interval(z, lower, upper, node.outputs[1]))

    def _product(self, scale: NDArray[Any], bias: ir.Value | None) -> ir.Value:
        """x: [N, C, H, W] or [N, C] levels, or real -> scale * accumulator + bias: [N, O, H', W'] or [N, O]."""
        node, words = self.node, self._operand(1)
        per_group = attribute(node, "channels") // attribute(node, "group", 1)
        signs = np.where(np.moveaxis(unpack_bits(words, per_group), -1, 1), 1.0, -1.0)
        weight = (scale.reshape(-1, *[1] * (signs.ndim - 1)) * signs).astype(np.float32)
        rest = [] if bias is None else [bias]
        if node.op_type in _LINEAR:
            return self._op("Gemm", node.inputs[0], self._constant("weight", weight), *rest, transB=1)
        self.nodes += padded_convolution(self.model, node, weight, rest)
        return self.nodes[-1].outputs[0]

    def _activation(self, z: ir.Value, activation: str, operands: dict[str, ir.Value | None]) -> ir.Value:
        if activation == opset.PRELU:
            slope, shift = (_known(operands[name]) for name in ("slope", "shift"))
            z = self._op("PRelu", z, self._constant("slope", slope.reshape(-1, 1, 1)))
            return self._op("Add", z, self._constant("shift", shift.reshape(-1, 1, 1))) if shift.any() else z
        if activation == opset.CLIP:
            ends = (attribute(self.node, "clip_low"), attribute(self.node, "clip_high"))
            if ends == (0.0, np.inf):
                return self._op("Relu", z)
            return self._op("Clip", z, *(self._constant("clip", np.array(end)) for end in ends))
        return z

    def _interval(self, x: ir.Value | None, lower: NDArray[Any], upper: NDArray[Any], written: ir.Value) -> ir.Value:
        """x: [N, C, *spatial], lower, upper: [1] or [C] -> the levels of `lower <= x <= upper`."""
        below, above = np.isneginf(lower), np.isposinf(upper)
        if not (below | above).all():
            ends = [self._channels(end, written) for end in (lower, upper)]
            inside = [self._op(op, x, end) for op, end in zip(("GreaterOrEqual", "LessOrEqual"), ends, strict=True)]
            return self._levels(self._op("And", *inside), written)
        turn, threshold = np.where(above, 1.0, -1.0), np.where(above, lower, -upper)
        if not above.all():
            x = self._op("Mul", x, self._channels(turn, written))
        return self._levels(self._op("GreaterOrEqual", x, self._channels(threshold, written)), written)

    def _levels(self, condition: ir.Value, written: ir.Value) -> ir.Value:
        """1 where `condition` holds, else what the readers of `written` take a bit 0 for."""
        lows = {attribute(reader, "low") for reader in _layers_behind(written)}
        if len(lows) > 1:
            raise InputRefused(self.node.name or self.node.op_type, f"bits read as {sorted(lows)}", "one meaning of 0")
        low = lows.pop() if lows else -1.0
        return self._op("Where", condition, self._constant("one", np.ones(())), self._constant("low", np.array(low)))

    def _channels(self, values: NDArray[Any], written: ir.Value) -> ir.Value:
        """[1] or [C] float32, shaped to meet [N, C, *spatial]."""
        flat = any(reader.op_type in _LINEAR for reader in _layers_behind(written))
        if values.size and (values == values[0]).all():
            return self._constant("bound", values[0].reshape(()))
        return self._constant("bound", values if flat else values.reshape(-1, 1, 1))

    def _operand(self, index: int) -> NDArray[Any]:
        return _known(self.node.inputs[index])

    def _constant(self, name: str, array: NDArray[Any]) -> ir.Value:
        return add_initializer(self.model, f"{self.node.name}.{name}", array.astype(np.float32))

    def _op(self, op_type: str, *operands: ir.Value | None, **attributes: Any) -> ir.Value:
        node = ir.node(op_type, operands, attributes, name=f"{self.node.name}/{op_type}.{len(self.nodes)}")
        self.nodes.append(node)
        return node.outputs[0]

    def replace(self) -> None:
        """Puts the new nodes where the old one stands."""
        graph, old = self.model.graph, self.node
        ir.convenience.replace_nodes_and_values(graph, old, [old], self.nodes, old.outputs, self.outputs)
        for value in self.outputs:
            if value.dtype != ir.DataType.FLOAT:  # taken over from words, of another shape
                value.type, value.shape = ir.TensorType(ir.DataType.FLOAT), None


def _layers_behind(written: ir.Value) -> Sequence[ir.Node]:
    """The 1-bit layers that read these bits, directly or through pools."""
    readers = [use.node for use in written.uses()]
    pools = [reader for reader in readers if reader.op_type == opset.PACKED_MAX_POOL2D]
    found = [reader for reader in readers if reader not in pools]
    return [*found, *(layer for pool in pools for layer in _layers_behind(pool.outputs[0]))]


def _known(value: ir.Value | None) -> NDArray[Any]:
    array = constant(value)
    if array is None:
        raise InputRefused(
            (value.name or "an operand") if value is not None else "an operand", "not a constant", "a deployed file"
        )
    return array


def _unbounded(bounds: NDArray[np.int32]) -> NDArray[np.float64]:
    """Bounds of an accumulator, infinite where they are beyond anything that it can be."""
    exact = bounds.astype(np.float64)
    return np.where(np.abs(exact) < UNBOUNDED, exact, np.copysign(np.inf, exact))
