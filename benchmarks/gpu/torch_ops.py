"""Standard ONNX operators in PyTorch, as many as the exported networks and their float twins have.

Everything runs where its inputs are and waits for nothing, so that a network of them can be captured into a CUDA graph.
Four-dimensional tensors keep the memory format that they have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import onnx
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from onnx import helper

Attributes = Mapping[str, Any]
Operands = list[Any]  # tensors; None where an operand is left out
Constants = list[NDArray[Any] | None]  # of the same operands, where they are constants of the network


class Unsupported(Exception):
    """An operator, or a form of it, that is not in the table."""


def compute(node: onnx.NodeProto, operands: Operands, constants: Constants) -> Any:
    """The one output of a node.

    Args:
        node: A standard operator.
        operands: Its inputs.
        constants: The same as arrays on the host: what PyTorch takes as numbers, such as axes, is read from there.

    Raises:
        Unsupported: It is not in the table.
    """
    if node.domain not in ("", "ai.onnx") or node.op_type not in TABLE:
        raise Unsupported(f"{node.op_type} is not among the operators that PyTorch stands in for")
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    return TABLE[node.op_type](attributes, operands, constants)


def _padded(attributes: Attributes, x: Any, value: float) -> tuple[Any, list[int]]:
    """x, and the padding that is left to the operator: PyTorch's have the same on both sides."""
    if attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b""):
        raise Unsupported("auto_pad")
    pads = list(attributes.get("pads", (0, 0, 0, 0)))
    half = len(pads) // 2
    if pads[:half] == pads[half:]:
        return x, pads[:half]
    return F.pad(x, _around(pads), value=value), [0] * half


def _around(pads: list[int]) -> list[int]:
    """ONNX has all beginnings, then all ends; PyTorch beginning and end of each axis, the last axis first."""
    half = len(pads) // 2
    return [pad for axis in reversed(range(half)) for pad in (pads[axis], pads[axis + half])]


def _conv(attributes: Attributes, operands: Operands, _: Constants) -> Any:
    x, pads = _padded(attributes, operands[0], 0.0)
    bias = operands[2] if len(operands) > 2 else None
    strides, dilations = attributes.get("strides", [1, 1]), attributes.get("dilations", [1, 1])
    return torch.conv2d(x, operands[1], bias, strides, pads, dilations, attributes.get("group", 1))


def _max_pool(attributes: Attributes, operands: Operands, _: Constants) -> Any:
    x, pads = _padded(attributes, operands[0], float("-inf"))
    dilations, ceil = attributes.get("dilations", [1, 1]), bool(attributes.get("ceil_mode", 0))
    return F.max_pool2d(x, attributes["kernel_shape"], attributes.get("strides", [1, 1]), pads, dilations, ceil)


def _average_pool(attributes: Attributes, operands: Operands, _: Constants) -> Any:
    counted = bool(attributes.get("count_include_pad", 0))
    pads, ceil = list(attributes.get("pads", (0, 0, 0, 0))), bool(attributes.get("ceil_mode", 0))
    if pads[:2] != pads[2:]:
        raise Unsupported("AveragePool with other padding on one side than on the other")
    strides = attributes.get("strides", [1, 1])
    return F.avg_pool2d(operands[0], attributes["kernel_shape"], strides, pads[:2], ceil, counted)


def _mean(attributes: Attributes, operands: Operands, constants: Constants) -> Any:
    axes = constants[1].tolist() if len(constants) > 1 and constants[1] is not None else attributes.get("axes")
    return torch.mean(operands[0], axes, bool(attributes.get("keepdims", 1)))


def _reshape(attributes: Attributes, operands: Operands, constants: Constants) -> Any:
    if constants[1] is None:
        raise Unsupported("Reshape to a shape that is computed")
    copied = not attributes.get("allowzero", 0)
    shape = [
        operands[0].shape[axis] if size == 0 and copied else size for axis, size in enumerate(constants[1].tolist())
    ]
    return operands[0].reshape(shape)


def _rows(x: Any, axis: int) -> Any:
    return x.reshape(prod(x.shape[:axis]), -1)


def _gemm(attributes: Attributes, operands: Operands, _: Constants) -> Any:
    if attributes.get("alpha", 1.0) != 1.0 or attributes.get("beta", 1.0) != 1.0:
        raise Unsupported("Gemm with factors")
    a, b = (x.t() if attributes.get(name, 0) else x for x, name in zip(operands[:2], ("transA", "transB"), strict=True))
    return torch.addmm(operands[2], a, b) if len(operands) > 2 else torch.mm(a, b)


def _batch_norm(attributes: Attributes, operands: Operands, _: Constants) -> Any:
    x, weight, bias, mean, variance = operands
    return F.batch_norm(x, mean, variance, weight, bias, False, 0.0, attributes.get("epsilon", 1e-5))


def _pad(attributes: Attributes, operands: Operands, constants: Constants) -> Any:
    if attributes.get("mode", b"constant") != b"constant" or constants[1] is None or len(operands) > 3:
        raise Unsupported("Pad with another mode, computed sizes or named axes")
    value = 0.0 if len(constants) < 3 or constants[2] is None else float(constants[2])
    return F.pad(operands[0], _around(constants[1].tolist()), value=value)


def _clip(_: Attributes, operands: Operands, constants: Constants) -> Any:
    low, high = (None if array is None else float(array) for array in [*constants[1:], None, None][:2])
    return torch.clamp(operands[0], low, high)


def _cast(attributes: Attributes, operands: Operands, _: Constants) -> Any:
    kinds = {onnx.TensorProto.FLOAT: torch.float32, onnx.TensorProto.FLOAT16: torch.float16}
    if attributes["to"] not in kinds:
        raise Unsupported(f"Cast to type {attributes['to']}")
    return operands[0].to(kinds[attributes["to"]])


def _elementwise(function: Callable[..., Any]) -> Callable[[Attributes, Operands, Constants], Any]:
    return lambda attributes, operands, constants: function(*operands)


TABLE: dict[str, Callable[[Attributes, Operands, Constants], Any]] = {
    "Add": _elementwise(torch.add),
    "And": _elementwise(torch.logical_and),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": lambda attributes, operands, constants: torch.cat(operands, attributes["axis"]),
    "Conv": _conv,
    "Flatten": lambda attributes, operands, constants: _rows(operands[0], attributes.get("axis", 1)),
    "Gemm": _gemm,
    "Greater": _elementwise(torch.gt),
    "GreaterOrEqual": _elementwise(torch.ge),
    "LessOrEqual": _elementwise(torch.le),
    "MaxPool": _max_pool,
    "Mul": _elementwise(torch.mul),
    "PRelu": _elementwise(lambda x, slope: F.prelu(x, slope.reshape(-1))),
    "Pad": _pad,
    "ReduceMean": _mean,
    "Relu": _elementwise(torch.relu),
    "Reshape": _reshape,
    "Sign": _elementwise(torch.sign),
    "Where": _elementwise(torch.where),
}
