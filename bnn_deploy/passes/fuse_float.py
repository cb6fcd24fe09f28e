r"""The float layers that stand between 1-bit ones become ops of ours, for which the native library has kernels.

    MaxPool(Conv(x, w, b))     ->  StemConv2dMaxPool(x, w, b)
    MaxPool(f(Conv(x, w, b)))  ->  f(StemConv2dMaxPool(x, w, b))  f: a ReLU or clamp, or slopes that are not negative
    Conv(AveragePool(x), w, b) ->  AveragePoolConv2d(x, w, b)     1x1, the shortcut of a block that halves the image
    AveragePool(x)             ->  AveragePool2d(x)

Each op is defined as the nodes that it stands for, in their order (`functions/float_layers.py`): nothing is folded, and
a runtime without the kernels computes the same bits as before. A convolution without a bias gets one of 0.

An activation between convolution and max-pool moves behind both, where it has a quarter of the pixels. For an f that
never falls, rounded as it is, x <= m implies f(x) <= f(m); so the largest f(x) is that of the largest x:

    max_i f(x_i) = f(max_i x_i)        padding takes no part: each window has pixels of the image

NaN stays NaN in every such f, so it is the same whether a max-pool skips NaN or returns it. Two things can differ: the
sign of a zero, and a window of nothing but NaN or -infinity, of which ONNX Runtime's max-pool may make the lowest
finite number. That was the result, and is now what f reads.

A stem is a convolution of stride 2 with a kernel of 7 or 8 rows and columns. Taking rows and columns apart by parity
makes it a sum of four convolutions of stride 1 with kernels of 4x4,

    y[i, j] = sum over p, q in {0, 1} and a, b in 0..3 of  w[2a + p, 2b + q] * x[2(i + a) + p, 2(j + b) + q]

to which Winograd's minimal filtering applies. Smaller kernels leave too few taps for it to pay.

The kernels read and write [N, C, H, W], as every op of ours does, while ONNX Runtime has a layout of its own between
its convolutions. So an average pool is taken only where an op of ours makes what it reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import onnx_ir as ir

from bnn_deploy import opset
from bnn_deploy.passes.activation import CLIPS, PRELUS, read_clip, read_slope
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

_USUAL = {"auto_pad": "NOTSET", "ceil_mode": 0, "group": 1}


class FuseFloatPass(Pass):
    """Makes one op of ours of a stem, of an average pool, and of an average pool with a 1x1 convolution behind it.

    For files of float32. An activation in a stem keeps its name and follows the op. Declined where a stem has
    something that its op has not.
    """

    def call(self, model: ir.Model) -> PassResult:
        changes, declined = 0, []
        for pool in nodes_of(model, "MaxPool", domain=""):
            above = _producer(pool)
            activation = above if is_op(above, *CLIPS, *PRELUS, domain="") else None
            conv = above if activation is None else _producer(activation)
            if conv is None or not _is_stem(conv):
                continue
            reason = _cannot_fuse(conv, activation, pool)
            if reason:
                declined.append(Declined(conv.name or conv.op_type, f"stays Conv and MaxPool: {reason}"))
                continue
            if activation is not None:
                pool = _pool_first(activation, pool)
            _fuse(model, opset.STEM_CONV2D_MAX_POOL, [conv, pool], {"pads": _window(conv)["pads"]})
            changes += 1
        for pool in nodes_of(model, "AveragePool", domain=""):
            changes += _fuse_average(model, pool)
        return self.done(model, changes, declined)


def _producer(node: ir.Node | None) -> ir.Node | None:
    """What makes the first input of `node`."""
    return node.inputs[0].producer() if node is not None and node.inputs[0] is not None else None


def _is_stem(conv: ir.Node) -> bool:
    kernel = _weight_shape(conv)[2:]
    fits = len(kernel) == 2 and set(kernel) <= set(opset.STEM_KERNELS)
    return fits and _window(conv)["strides"] == opset.STEM_STRIDES


def _weight_shape(node: ir.Node) -> tuple[int, ...]:
    """[O, C / group, KH, KW]; empty where `node` is no convolution, or the shape of its weight is not known."""
    weight = node.inputs[1] if is_op(node, "Conv", domain="") else None
    shape = weight.shape if weight is not None else None
    return tuple(shape.numpy()) if shape is not None and shape.is_static() else ()


def _never_falls(activation: ir.Node, channels: int) -> bool:
    """Whether f(a) <= f(b) for all a <= b, as far as constants tell. It holds for bounds in any order."""
    if is_op(activation, *CLIPS, domain=""):
        return read_clip(activation) is not None
    slope = read_slope(activation, channels)
    return slope is not None and bool(np.isfinite(slope).all() and (slope >= 0).all())


def _pool_first(activation: ir.Node, pool: ir.Node) -> ir.Node:
    """The max-pool that reads what `activation` read; `activation` follows it, and has its output's name and shape."""
    first = _like(pool, activation.inputs[:1])
    first.outputs[0].type, first.outputs[0].shape = pool.outputs[0].type, pool.outputs[0].shape
    behind = _like(activation, [first.outputs[0], *activation.inputs[1:]])
    unread = list(pool.inputs)
    replace(pool, [first, behind], behind.outputs[0])
    remove_unread(*unread)
    return first


def _like(node: ir.Node, inputs: Sequence[ir.Value | None]) -> ir.Node:
    """The same op, with the same name, on other inputs."""
    metadata = dict(node.metadata_props)
    return ir.Node("", node.op_type, inputs, node.attributes.values(), name=node.name, metadata_props=metadata)


def _cannot_fuse(conv: ir.Node, activation: ir.Node | None, pool: ir.Node) -> str:
    nodes = [conv, pool] if activation is None else [conv, activation, pool]
    channels = _weight_shape(conv)[1] * int(attribute(conv, "group", 1))
    if channels > opset.STEM_MOST_CHANNELS:
        return f"it reads {channels} channels, more than {opset.STEM_MOST_CHANNELS}"
    if not _is_usual(conv):
        return "it has groups, dilations or auto_pad"
    if not _has_constant_parameters(conv):
        return "its weight and bias are not finite float32 constants"
    if len(pool.outputs) > 1 or any(only_consumer(a.outputs[0]) is not b for a, b in pairwise(nodes)):
        return "more is read of it than the largest values"
    if not _is_usual(pool) or _window(pool) != opset.STEM_POOL:
        return "the max-pool is not one of 3x3 with strides of 2 and pads of 1"
    if activation is not None and not _never_falls(activation, _weight_shape(conv)[0]):
        return f"the {activation.op_type} between them may fall, as far as its constants tell"
    return ""


def _is_usual(node: ir.Node) -> bool:
    """Whether a convolution or a pool has nothing that our ops have no attribute for."""
    usual = all(attribute(node, name, value) == value for name, value in _USUAL.items())
    return usual and set(attribute(node, "dilations", [1])) == {1}


def _window(node: ir.Node) -> dict[str, tuple[int, ...]]:
    """What moves over two axes: of a pool, or of a convolution, whose kernel its weight tells."""
    usual = {"kernel_shape": _weight_shape(node)[2:], "strides": (1, 1), "pads": (0, 0, 0, 0)}
    return {name: tuple(attribute(node, name, value)) for name, value in usual.items()}


def _has_constant_parameters(conv: ir.Node) -> bool:
    for value in conv.inputs[1:]:
        if value is None:
            continue
        array = constant(value) if value.is_initializer() and not value.is_graph_input() else None
        if array is None or array.dtype != np.float32 or not np.isfinite(array).all():
            return False
    return True


def _fuse_average(model: ir.Model, pool: ir.Node) -> bool:
    """Whether an average pool became an op of ours: with the 1x1 convolution behind it, or by itself."""
    source, window = _producer(pool), _window(pool)
    if source is None or source.domain != opset.DOMAIN or pool.outputs[0].dtype != ir.DataType.FLOAT:
        return False
    if not _is_usual(pool) or len(window["kernel_shape"]) != 2 or any(window.pop("pads")):
        return False
    conv = only_consumer(pool.outputs[0])
    if conv is not None and _is_pointwise(conv) and _has_constant_parameters(conv):
        _fuse(model, opset.AVERAGE_POOL_CONV2D, [pool, conv], window)
    else:
        _fuse(model, opset.AVERAGE_POOL2D, [pool], window)
    return True


def _is_pointwise(node: ir.Node) -> bool:
    """Whether it is a plain convolution of 1x1 and stride 1."""
    plain = {"kernel_shape": (1, 1), "strides": (1, 1), "pads": (0, 0, 0, 0)}
    return len(_weight_shape(node)) == 4 and _is_usual(node) and _window(node) == plain


def _fuse(model: ir.Model, op_type: str, nodes: Sequence[ir.Node], attributes: dict[str, Any]) -> None:
    """One op in the place of `nodes`, each of which reads the one before; it is named after the convolution."""
    named = next((node for node in nodes if node.op_type == "Conv"), nodes[0])
    parameters = list(named.inputs[1:])
    if named.op_type == "Conv" and (len(parameters) < 2 or parameters[1] is None):
        zeros = np.zeros(_weight_shape(named)[0], np.float32)
        parameters = [parameters[0], add_initializer(model, f"{named.name}.bias", zeros)]
    metadata = {key: value for node in (*nodes, named) for key, value in node.metadata_props.items()}
    fused = ir.node(
        op_type,
        [nodes[0].inputs[0], *parameters],
        attributes,
        domain=opset.DOMAIN,
        name=named.name,
        metadata_props=metadata,
    )
    unread = list(nodes[-1].inputs)
    replace(nodes[-1], [fused], fused.outputs[0])
    remove_unread(*unread)
