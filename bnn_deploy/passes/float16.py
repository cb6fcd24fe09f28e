r"""What float16 can hold, and what of a graph may be float16.

A float16 has 11 significant bits from 2^-14 to 65504. Within that, rounding is off by at most `UNIT_ROUNDOFF` of the
value; below, the spacing stays 2^-24 and small values lose their digits, or all of themselves; above there is infinity.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from bnn_deploy.passes.graph import attribute

LARGEST: Final = 65504.0
SMALLEST_NORMAL: Final = 2.0**-14
UNIT_ROUNDOFF: Final = 2.0**-11

# Operators whose results, or what they sum up on the way, leave the range for ordinary inputs.
WIDE_RANGE: Final = ("Exp", "Pow", "ReduceL2", "ReduceLogSumExp", "ReduceProd", "ReduceSumSquare")


def rounded(exact: NDArray[np.float64]) -> NDArray[np.float16]:
    """To nearest even; beyond the range infinite."""
    with np.errstate(over="ignore"):
        return exact.astype(np.float16)


def loss(exact: NDArray[np.float64], reference: NDArray[np.float64] | float = 0.0, *, saturates: bool = False) -> str:
    """Why float16 cannot hold a constant; empty where it can.

    Args:
        exact: Its values.
        reference: Broadcast against `exact`: what an error may be compared with where that is more than the value.
        saturates: Whether infinity serves as well as anything beyond the range.
    """
    finite = np.isfinite(exact)
    far = finite & (np.abs(exact) >= LARGEST + 16)  # from there on it rounds to infinity
    if far.any() and not saturates:
        return f"it holds {exact[far].flat[0]:.4g}, and float16 ends at {LARGEST:g}"
    checked = np.where(finite & ~far, exact, 0.0)
    lost = np.abs(rounded(checked) - checked) > UNIT_ROUNDOFF * np.maximum(np.abs(checked), reference)
    if not lost.any():
        return ""
    first = checked[lost][:1]
    return f"it holds {first[0]:.4g}, of which float16 makes {float(rounded(first)[0]):.4g}"


def reference(node: ir.Node, index: int, array: NDArray[np.float64]) -> NDArray[np.float64] | float:
    """What the error in a constant input of `node` counts against.

    For the weights of a sum, the largest weight of the same output. A bias need only be in range: what it loses is no
    more than its sum loses when it is stored.
    """
    axes = {"Conv": 0, "ConvTranspose": 1, "Gemm": 0 if attribute(node, "transB", 0) else 1, "MatMul": -1}
    if node.op_type not in axes or index == 0 or array.ndim == 0:
        return 0.0
    if index == 2:
        return np.inf
    output_axis = axes[node.op_type] % array.ndim
    summed = tuple(axis for axis in range(array.ndim) if axis != output_axis)
    largest: NDArray[np.float64] = np.abs(array).max(axis=summed, keepdims=True, initial=0.0)
    return largest


@cache
def _schema(op_type: str, version: int) -> onnx.defs.OpSchema | None:
    try:
        return onnx.defs.get_schema(op_type, version, "")
    except onnx.defs.SchemaError:
        return None


class Signature:
    """Which inputs and outputs of a standard operator share a type that may be float32 and float16.

    Attributes:
        free: Such types, by the names that the standard gives them.
        moves_data: Whether the operator takes values of any type, because it computes nothing with them.
    """

    def __init__(self, node: ir.Node, version: int) -> None:
        schema = _schema(node.op_type, version)
        allowed: dict[str, set[str]] = {}
        self._inputs: list[str] = []
        self._outputs: list[str] = []
        if schema is not None:
            allowed = {entry.type_param_str: {*entry.allowed_type_strs} for entry in schema.type_constraints}
            self._inputs = [entry.type_str for entry in schema.inputs]
            self._outputs = [entry.type_str for entry in schema.outputs]
        self._allowed = allowed
        bound = {self.input(i) for i in range(len(node.inputs))} & {self.output(i) for i in range(len(node.outputs))}
        self.free = {name for name in bound if {"tensor(float)", "tensor(float16)"} <= allowed.get(name, set())}
        self.moves_data = any("tensor(bool)" in allowed[name] for name in self.free)

    def input(self, index: int) -> str:
        """The type of an input; the last one may be repeated."""
        return self._inputs[min(index, len(self._inputs) - 1)] if self._inputs else ""

    def output(self, index: int) -> str:
        """The type of an output; the last one may be repeated."""
        return self._outputs[min(index, len(self._outputs) - 1)] if self._outputs else ""

    def settle(self, node: ir.Node) -> None:
        """Gives outputs that an earlier pass left without a type the one that follows from the inputs."""
        given = {self.input(i): value.dtype for i, value in enumerate(node.inputs) if value is not None}
        for index, value in enumerate(node.outputs):
            if value.dtype is not None:
                continue
            name = self.output(index)
            dtype = ir.DataType(attribute(node, "to")) if node.op_type == "Cast" else given.get(name)
            if dtype is None and self._allowed.get(name) == {"tensor(bool)"}:
                dtype = ir.DataType.BOOL
            value.type = ir.TensorType(dtype) if dtype is not None else None


def is_float(value: ir.Value | None) -> bool:
    """Whether it is a tensor of float32 or float16."""
    return value is not None and value.dtype in (ir.DataType.FLOAT, ir.DataType.FLOAT16)


def is_float16(value: ir.Value | None) -> bool:
    """Whether it is a tensor of float16."""
    return value is not None and value.dtype == ir.DataType.FLOAT16
