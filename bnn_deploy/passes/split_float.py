r"""The opposite of `fuse_float`: the standard nodes that an op of ours on floats stands for.

    StemConv2dMaxPool(x, w, b)  ->  MaxPool(Conv(x, w, b))
    AveragePoolConv2d(x, w, b)  ->  Conv(AveragePool(x), w, b)
    AveragePool2d(x)            ->  AveragePool(x)

For tools that take standard ops alone: they then find what PyTorch's exporter wrote. A bias of 0 is left out, as it
means that there was none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx_ir as ir

from bnn_deploy import opset
from bnn_deploy.passes.base import Pass, PassResult
from bnn_deploy.passes.graph import attribute, constant, nodes_of, remove_unread, replace


class SplitFloatPass(Pass):
    """Replaces `opset.FLOAT_OPS`; a convolution has the name of the op that it was in."""

    def call(self, model: ir.Model) -> PassResult:
        changes = 0
        for node in nodes_of(model, *opset.FLOAT_OPS):
            parts, unread = _PARTS[node.op_type](node), node.inputs[1:]
            replace(node, parts, parts[-1].outputs[0])
            remove_unread(*unread)
            model.functions.pop(node.op_identifier(), None)
            changes += 1
        return self.done(model, changes)


def _stem(node: ir.Node) -> list[ir.Node]:
    conv = _convolution(node, node.inputs[0], strides=opset.STEM_STRIDES, pads=attribute(node, "pads"))
    return [conv, ir.node("MaxPool", conv.outputs, opset.STEM_POOL, name=f"{node.name}/MaxPool")]


def _average(node: ir.Node) -> list[ir.Node]:
    return [_average_pool(node, node.name or node.op_type)]


def _average_and_convolution(node: ir.Node) -> list[ir.Node]:
    pool = _average_pool(node, f"{node.name}/AveragePool")
    return [pool, _convolution(node, pool.outputs[0])]


_PARTS: dict[str, Callable[[ir.Node], list[ir.Node]]] = {
    opset.STEM_CONV2D_MAX_POOL: _stem,
    opset.AVERAGE_POOL2D: _average,
    opset.AVERAGE_POOL_CONV2D: _average_and_convolution,
}


def _average_pool(node: ir.Node, name: str) -> ir.Node:
    window = {key: attribute(node, key) for key in ("kernel_shape", "strides")}
    return ir.node("AveragePool", node.inputs[:1], window, name=name)


def _convolution(node: ir.Node, x: ir.Value | None, **attributes: Any) -> ir.Node:
    weight, bias = node.inputs[1:]
    known = constant(bias)
    parameters = [weight] if known is not None and not known.any() else [weight, bias]
    return ir.node("Conv", [x, *parameters], attributes, name=node.name, metadata_props=dict(node.metadata_props))
