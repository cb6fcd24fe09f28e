r"""Bits in, bits out: where nothing reads a layer's float output, its epilogue becomes two integers a channel.

A layer without a shortcut maps the accumulator alone to the next layer's bit, and an accumulator has few values: with
K taps, -K..K. So nothing is derived here, everything is tried: for each output channel the float32 epilogue, as
documented and operation by operation, is evaluated at every accumulator there can be. If the accumulators that give 1
are consecutive, from `lower` to `upper`, then

    bit = lower[o] <= acc <= upper[o]

is the same function, exactly, whatever the epilogue was made of: negative or zero scale, PReLU, clamp. If they are not
(a PReLU with a negative slope bends back), the layer stays as it is.
"""

from __future__ import annotations

from math import prod

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bnn_deploy import opset
from bnn_deploy.opset import CLIP
from bnn_deploy.passes.base import Declined, Pass, PassResult
from bnn_deploy.passes.graph import (
    add_initializer,
    attribute,
    constant,
    is_op,
    nodes_of,
    only_consumer,
    remove_unread,
    replace,
)
from bnn_deploy.passes.interval import PACKS, Interval, read_interval

_ALWAYS_LOWER, _ALWAYS_UPPER = -(2**31), 2**31 - 1
_EVALUATED_AT_ONCE = 2**22  # numbers; the first fully connected layer of a VGG has 2**27 of them

Bounds = tuple[NDArray[np.int32], NDArray[np.int32]]
"""(lower, upper), [O] each, on the accumulator."""
_Operands = dict[str, NDArray[np.float32]]


class ChainBitsPass(Pass):
    """`PackedConv2d...Pack` whose y nobody reads becomes `PackedConv2dBits`, a linear layer `PackedLinearBits`."""

    def call(self, model: ir.Model) -> PassResult:
        changes, declined = 0, []
        for layer in nodes_of(model, *opset.FUSED_CONV_OPS):
            epilogue, y = opset.EPILOGUES[layer.op_type], layer.outputs[0]
            if not epilogue.packs or epilogue.residual or y.uses() or y.is_graph_output():
                continue
            bounds = _conv_bounds(layer)
            if bounds is None:
                reason = "its bits are not an interval of the accumulator; a PReLU with a negative slope does that"
                declined.append(Declined(layer.name or layer.op_type, f"keeps a float epilogue: {reason}"))
                continue
            _chain_conv(model, layer, bounds)
            changes += 1
        for pack in nodes_of(model, *PACKS):
            linear = pack.inputs[0].producer() if pack.inputs[0] is not None else None
            if linear is None or not is_op(linear, opset.PACKED_LINEAR) or only_consumer(linear.outputs[0]) is not pack:
                continue
            bounds = _bounds(linear, read_interval(pack), _operands(linear, ("scale", "bias")))
            if bounds is not None:
                _chain_linear(model, linear, pack, bounds)
                changes += 1
        return self.done(model, changes, declined)


def bit_interval(ones: NDArray[np.bool_], smallest: int) -> Bounds | None:
    """The bounds between which `ones` holds, or None where they are not consecutive in some channel.

    Args:
        ones: [O, values] bool; column j is the accumulator `smallest + j`.
        smallest: The smallest accumulator there can be.

    Returns:
        lower, upper: [O] int32, the int32 limits where the condition holds up to the end; lower > upper where it
        never holds.
    """
    count = ones.sum(axis=1)
    first = ones.argmax(axis=1)
    last = ones.shape[1] - 1 - ones[:, ::-1].argmax(axis=1)
    if ((count > 0) & (last - first + 1 != count)).any():
        return None
    lower = np.where(first == 0, _ALWAYS_LOWER, smallest + first)
    upper = np.where(last == ones.shape[1] - 1, _ALWAYS_UPPER, smallest + last)
    lower, upper = np.where(count == 0, 1, lower), np.where(count == 0, 0, upper)
    return lower.astype(np.int32), upper.astype(np.int32)


def _conv_bounds(layer: ir.Node) -> Bounds | None:
    epilogue = opset.EPILOGUES[layer.op_type]
    operands = _operands(layer, ("scale", "bias", *epilogue.operands))
    condition = Interval(operands.pop("lower"), operands.pop("upper"))
    clip = None
    if epilogue.activation == CLIP:
        clip = np.float32(attribute(layer, "clip_low")), np.float32(attribute(layer, "clip_high"))
    return _bounds(layer, condition, operands, clip)


def _bounds(
    layer: ir.Node, condition: Interval, operands: _Operands, clip: tuple[np.float32, np.float32] | None = None
) -> Bounds | None:
    """The accumulators whose epilogue fulfils the condition, a few output channels at a time."""
    taps = _taps(layer)
    accumulator = np.arange(-taps, taps + 1, dtype=np.float32)
    outputs = len(condition.lower)
    found = []
    for channels in np.array_split(np.arange(outputs), -(-outputs * len(accumulator) // _EVALUATED_AT_ONCE)):
        some = {name: array[channels, None] for name, array in operands.items()}
        bits = Interval(condition.lower[channels, None], condition.upper[channels, None])
        bounds = bit_interval(bits.holds(_epilogue(accumulator, some, clip)), -taps)
        if bounds is None:
            return None
        found.append(bounds)
    lower, upper = zip(*found, strict=True)
    return np.concatenate(lower), np.concatenate(upper)


def _epilogue(
    accumulator: NDArray[np.float32], operands: _Operands, clip: tuple[np.float32, np.float32] | None
) -> NDArray[np.float32]:
    """What `opset.Epilogue` says, step by step in float32. accumulator: [values], operands: [O, 1] -> [O, values]."""
    with np.errstate(over="ignore", invalid="ignore"):
        z = operands["scale"] * accumulator
        z = z + operands["bias"]
        if "slope" in operands:
            z = np.where(z >= 0, z, operands["slope"] * z)
            z = z + operands["shift"]
    return z if clip is None else np.clip(z, *clip)


def _operands(layer: ir.Node, names: tuple[str, ...]) -> _Operands:
    """The constant operands behind the packed input and the weights by name, [O] float32 each."""
    found = {}
    for name, value in zip(names, layer.inputs[2:], strict=True):
        array = constant(value)
        if array is None:
            raise ValueError(f"{layer.name}: {name} is not constant")
        found[name] = array.astype(np.float32)
    return found


def _taps(layer: ir.Node) -> int:
    """K: the largest magnitude that an accumulator can have."""
    words = constant(layer.inputs[1])
    if words is None:
        raise ValueError(f"{layer.name}: the weights are not constant")
    return int(attribute(layer, "channels")) // int(attribute(layer, "group", 1)) * prod(words.shape[1:-1])


def _chain_conv(model: ir.Model, layer: ir.Node, bounds: Bounds) -> None:
    graph, unread = layer.graph, list(layer.inputs[2:])
    if graph is None:
        raise ValueError(f"{layer.name} belongs to no graph")
    pack_name = layer.metadata_props.get(opset.PACK_NAME, layer.name or layer.op_type)
    chained = _chained(model, layer, bounds, opset.PACKED_CONV2D_BITS, pack_name)
    ir.convenience.replace_nodes_and_values(graph, layer, [layer], [chained], [layer.outputs[1]], [chained.outputs[0]])
    remove_unread(*unread)


def _chain_linear(model: ir.Model, layer: ir.Node, pack: ir.Node, bounds: Bounds) -> None:
    chained = _chained(model, layer, bounds, opset.PACKED_LINEAR_BITS, pack.name or pack.op_type)
    unread = list(pack.inputs)
    replace(pack, [chained], chained.outputs[0])
    remove_unread(*unread)


def _chained(model: ir.Model, layer: ir.Node, bounds: Bounds, op_type: str, pack_name: str) -> ir.Node:
    ends = [
        add_initializer(model, f"{layer.name}.{end}", array)
        for end, array in zip(("lower", "upper"), bounds, strict=True)
    ]
    return ir.node(
        op_type,
        [*layer.inputs[:2], *ends],
        {name: attribute(layer, name) for name in layer.attributes if not name.startswith("clip_")},
        domain=opset.DOMAIN,
        name=layer.name,
        metadata_props={**layer.metadata_props, opset.PACK_NAME: pack_name},
    )
