r"""A max-pool in front of a binarisation moves behind it, where it works on bits.

For one channel with the condition `x >= l` the maximum fulfils it iff any value does: OR over the window. With `x <= u`
(a BatchNorm with gamma < 0 turned the comparison round) the maximum fulfils it iff all values do: AND. By de Morgan one
op does both: flip the bits of the AND channels, take OR, flip back.

    PackInterval(MaxPool(x), l, u)   becomes   PackedMaxPool2d(PackInterval(x, l, u), flip)

A padded pixel is -infinity to a max-pool: no 1 for OR, and after the flip none for AND either. A condition that is
always or never true is either. One bounded on both sides is neither, and declines.

What is not finite can differ: to PyTorch's max-pool NaN is the greatest value and here it is no 1; an infinity hides
from a channel with gamma = 0, which it would make NaN, where another pixel of the window is finite.
"""

from __future__ import annotations

import onnx_ir as ir

from bnn_deploy import opset
from bnn_deploy.bits import pack_bits
from bnn_deploy.passes.absorb_threshold import absorb_into
from bnn_deploy.passes.base import Declined, Pass, PassResult
from bnn_deploy.passes.graph import (
    add_initializer,
    attribute,
    is_op,
    nodes_of,
    only_consumer,
    remove_unread,
    replace,
)
from bnn_deploy.passes.interval import LARGEST, PACKS, Interval, read_interval


class PackPoolPass(Pass):
    """`Pack(MaxPool(x))` becomes `PackedMaxPool2d(Pack(x))` where nothing else reads x or the pooled tensor.

    The pack that has moved absorbs what it now stands behind, as in `absorb_threshold`.
    """

    def call(self, model: ir.Model) -> PassResult:
        changes, declined = 0, []
        for node in nodes_of(model, *PACKS):
            pack = node
            while (pool := _pool_above(pack)) is not None:
                interval = read_interval(pack)
                reason = _cannot_move(pool, interval)
                if reason:
                    declined.append(Declined(pack.name or pack.op_type, f"MaxPool {pool.name} stays float: {reason}"))
                    break
                pack, absorbed = absorb_into(model, _move(model, pack, pool, interval))
                changes += 1 + absorbed
        return self.done(model, changes, declined)


def _pool_above(pack: ir.Node) -> ir.Node | None:
    pool = pack.inputs[0].producer() if pack.inputs[0] is not None else None
    return pool if is_op(pool, "MaxPool", domain="") else None


def _cannot_move(pool: ir.Node, interval: Interval) -> str:
    x = pool.inputs[0]
    if any(only_consumer(value) is None for value in (x, pool.outputs[0]) if value is not None) or _is_indexed(pool):
        return "its values are needed in float elsewhere"
    if len(attribute(pool, "kernel_shape", [])) != 2:
        return "it does not pool over two axes"
    if attribute(pool, "ceil_mode", 0) or any(size != 1 for size in attribute(pool, "dilations", [1])):
        return "it has ceil_mode or dilations"
    if attribute(pool, "auto_pad", "NOTSET") != "NOTSET":
        return "it has auto_pad"
    has_lower, has_upper = interval.lower > -LARGEST, interval.upper < LARGEST
    if (has_lower & has_upper & (interval.lower <= interval.upper)).any():
        return "a channel's condition has two bounds"
    return ""


def _is_indexed(pool: ir.Node) -> bool:
    """Whether someone reads where the maxima were."""
    return any(value.uses() or value.is_graph_output() for value in pool.outputs[1:])


def _move(model: ir.Model, pack: ir.Node, pool: ir.Node, interval: Interval) -> ir.Node:
    """Returns the pack in its new place."""
    x, bits = pool.inputs[0], pack.outputs[0]
    attributes = {name: attribute(pack, name) for name in pack.attributes}
    below = ir.node(pack.op_type, [x, *pack.inputs[1:]], attributes, domain=opset.DOMAIN, name=pack.name)
    below.outputs[0].name, below.outputs[0].type = f"{bits.name}.unpooled", bits.type
    if x is not None and x.shape is not None and bits.shape is not None:
        below.outputs[0].shape = ir.Shape([x.shape[0], *x.shape[2:], bits.shape[-1]])
    takes_all = (interval.lower <= -LARGEST) & (interval.upper < LARGEST)
    flip = add_initializer(model, f"{pool.name}.flip", pack_bits(takes_all))
    window = {
        "channels": len(interval.lower),
        "kernel_shape": attribute(pool, "kernel_shape"),
        "strides": attribute(pool, "strides", [1, 1]),
        "pads": attribute(pool, "pads", [0, 0, 0, 0]),
    }
    pooled = ir.node(opset.PACKED_MAX_POOL2D, [below.outputs[0], flip], window, domain=opset.DOMAIN, name=pool.name)
    unread = list(pack.inputs)
    replace(pack, [below, pooled], pooled.outputs[0])
    remove_unread(*unread)
    return below
