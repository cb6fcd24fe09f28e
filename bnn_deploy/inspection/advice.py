"""What to change in training to have a layer 1-bit, and what the papers do with a layer of its kind."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from bnn_deploy import opset
from bnn_deploy.bits import Levels
from bnn_deploy.inspection.nodes import VIEWS, is_float_layer, is_standard

FIRST = (
    "It reads the input itself, whose values are not ±1, and has few channels: XNOR-Net, Bi-Real Net and ReActNet keep "
    "this layer float. To go further, code each pixel as several bits (a thermometer code, arXiv:2505.13462)."
)
LAST = (
    "It makes the outputs, and is a small part of the work: XNOR-Net, Bi-Real Net and ReActNet keep this layer float. "
    "A BinaryLinear or BinaryConv2d in its place, with a BatchNorm behind it, can be trained (arXiv:1602.02830), at a "
    "cost in accuracy."
)
SHORTCUT = (
    "A 1x1 convolution on a shortcut: Bi-Real Net keeps it float, because it carries real values past a 1-bit layer. "
    "Train with a shortcut that has no weights instead (ResNetDownSample, or SkipConnectV2: average pool, channels "
    "concatenated), or with a binary one, SkipConnectV2(conv_ds=True)."
)
DEPTHWISE = (
    "A depthwise convolution: with ±1 it could only tell a few sums apart, which is why ReActNet has none. Train with "
    "a full BinaryConv2d and a skip over it in its place."
)
ELSEWHERE = (
    "Train with a BinaryConv2d or BinaryLinear in its place, with a BatchNorm behind it and a skip over it, as Bi-Real "
    "Net does."
)
ALPHA_BOTH = (
    "Its weights are ±alpha and its input has two or three values: it is a binary layer that was not built of "
    "bnn_deploy.nn. Build it of BinaryConv2d or BinaryLinear and load the same weights; no training is needed."
)
ALPHA_FLOAT_INPUT = (
    "Its weights are ±alpha already, its input is not binarised. Train with a binary activation before it: "
    "bi_act_method=1, RSign or BirealBinaryActivation. Or build it of bnn_deploy.nn with bi_act_method=-1 and load the "
    "same weights: they alone are then 1-bit."
)
FLOAT_INPUT = (
    "Its weights are 1-bit, its input is not binarised. Train with bi_act_method=1, or with RSign or "
    "BirealBinaryActivation before it; a BatchNorm between the two costs nothing."
)
TERNARY = (
    "Its activations come from torch.sign, which makes 0 of 0: two planes of bits, twice the work. Train with "
    "zero='one'; or export with --sign-zero one, which differs where an activation is exactly 0."
)

_TRANSPARENT = (*VIEWS, "Pad", "Transpose", "MaxPool", "Concat", "Cast")


class Advisor:
    """Knows where in the graph a layer stands."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._producer = {name: node for node in graph.node for name in node.output}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self._behind_layers = self._spread(graph.node)
        self._before_layers = self._spread(reversed(graph.node), forward=False)

    def for_binary(self, levels: str) -> str | None:
        """Of a layer that is 1-bit."""
        return TERNARY if levels == Levels.TERNARY else None

    def for_float_input(self, node: onnx.NodeProto) -> str:
        """Of a layer with 1-bit weights and float activations."""
        return f"{FLOAT_INPUT} {FIRST}" if self._is_first(node) else FLOAT_INPUT

    def for_float(self, node: onnx.NodeProto, shape: Sequence[int], *, one_alpha: bool) -> str:
        """Of a layer with float weights of `shape`: [O, C / group, KH, KW] or [O, C]."""
        if one_alpha:
            return ALPHA_BOTH if self._has_few_values(node.input[0]) else ALPHA_FLOAT_INPUT
        if self._is_first(node):
            return FIRST
        if not self._before_layers.intersection(node.output):
            return LAST
        if len(shape) == 4 and shape[1] == 1 and shape[0] > 1:
            return DEPTHWISE
        if tuple(shape[2:]) == (1, 1) and self._feeds_addition(node.output[0]):
            return SHORTCUT
        return ELSEWHERE

    def _is_first(self, node: onnx.NodeProto) -> bool:
        return node.input[0] not in self._behind_layers

    def _feeds_addition(self, tensor: str) -> bool:
        for reader in self._readers.get(tensor, ()):
            fused = opset.EPILOGUES.get(opset.float32_op(reader.op_type)) if reader.domain == opset.DOMAIN else None
            if fused is not None and fused.residual and reader.input[4] == tensor:
                return True
            if not is_standard(reader):
                continue
            if reader.op_type == "Add":
                return True
            if reader.op_type == "BatchNormalization" and self._feeds_addition(reader.output[0]):
                return True
        return False

    def _has_few_values(self, tensor: str) -> bool:
        """Whether it is made by a sign, or by choosing among the constants -1, 0 and 1."""
        node = self._producer.get(tensor)
        if node is None:
            return self._is_level(tensor)
        if not is_standard(node):
            return False
        if node.op_type == "Sign":
            return True
        if node.op_type == "Where":
            return all(self._has_few_values(name) for name in node.input[1:])
        return node.op_type in _TRANSPARENT and self._has_few_values(node.input[0])

    def _is_level(self, tensor: str) -> bool:
        constant = self._constants.get(tensor)
        return constant is not None and bool(np.isin(numpy_helper.to_array(constant), (-1, 0, 1)).all())

    def _spread(self, nodes: Sequence[onnx.NodeProto] | reversed[onnx.NodeProto], *, forward: bool = True) -> set[str]:
        """The tensors that a layer's output is in (forward), or those that end up in a layer (backward)."""
        reached: set[str] = set()
        for node in nodes:
            here, there = (node.input, node.output) if forward else (node.output, node.input)
            if self._is_layer(node) or not reached.isdisjoint(here):
                reached.update(name for name in there if name not in self._constants)
        return reached

    def _is_layer(self, node: onnx.NodeProto) -> bool:
        if len(node.input) < 2 or node.input[1] not in self._constants:
            return False
        return is_float_layer(node) or (node.domain == opset.DOMAIN and node.op_type in opset.WEIGHT_OPS)
