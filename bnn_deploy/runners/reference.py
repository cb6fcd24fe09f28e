"""The deployed file, computed the slow way: integers for our ops, ONNX's own reference evaluator for the rest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from bnn_deploy import bits, opset
from bnn_deploy.bits import Levels
from bnn_deploy.errors import InputRefused
from bnn_deploy.reference import (
    Geometry,
    accumulate_conv2d,
    accumulate_linear,
    convolve_real,
    epilogue,
)
from bnn_deploy.runners.base import Arrays, RunnerBase, check_feeds

Array = NDArray[Any]


class ReferenceRunner(RunnerBase):
    """Runs an ONNX model with integer accumulators and float64 epilogues, rounded to float32 at each layer's end.

    Args:
        model: A file, or a model in memory.
    """

    name = "reference"

    def __init__(self, model: str | Path | onnx.ModelProto) -> None:
        if not isinstance(model, onnx.ModelProto):
            if not Path(model).is_file():
                raise InputRefused(str(model), "no such file", "an ONNX file")
            model = onnx.load(str(model))
        bare = onnx.ModelProto()
        bare.CopyFrom(model)
        del bare.functions[:]  # the evaluator would prefer a body to the classes below
        self._evaluator = ReferenceEvaluator(bare, new_ops=_OPERATORS)
        self.inputs = {value.name: _shape(value) for value in bare.graph.input}
        self.outputs = [value.name for value in bare.graph.output]

    def infer(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        check_feeds(self.name, feeds, self.inputs)
        results = self._evaluator.run(self.outputs, dict(feeds))
        return dict(zip(self.outputs, results, strict=True))


def _shape(value: onnx.ValueInfoProto) -> tuple[Any, ...]:
    return tuple(size.dim_value if size.HasField("dim_value") else None for size in value.type.tensor_type.shape.dim)


def _pack(x: Array, threshold: Array | float, levels: Levels) -> NDArray[np.int32]:
    limit = np.reshape(threshold, (1, -1, *[1] * (x.ndim - 2)))
    values = bits.binarize(x, levels, limit if levels is not Levels.TERNARY else 0.0)
    return bits.pack_levels(np.moveaxis(values, 1, -1), levels)


def _levels(attributes: Mapping[str, Any], ternary: bool) -> Levels:
    if ternary:
        return Levels.TERNARY
    return Levels.BIPOLAR if attributes["low"] == -1.0 else Levels.UNIPOLAR


def _conv(packed: Array, weight: Array, scale: Array, bias: Array, attributes: dict[str, Any], ternary: bool) -> Array:
    levels = _levels(attributes, ternary)
    x = np.moveaxis(bits.unpack_levels(packed, attributes["channels"], levels), -1, 1)
    signs = _signs(weight, attributes["channels"] // attributes["group"])
    accumulator = accumulate_conv2d(x, signs, _geometry(attributes))
    return epilogue(accumulator, scale, bias, channel_axis=1).astype(scale.dtype)


def _linear(
    packed: Array, weight: Array, scale: Array, bias: Array, attributes: dict[str, Any], ternary: bool
) -> Array:
    x = bits.unpack_levels(packed, attributes["channels"], _levels(attributes, ternary))
    accumulator = accumulate_linear(x, _signs(weight, attributes["channels"]))
    return epilogue(accumulator, scale, bias, channel_axis=-1).astype(scale.dtype)


def _signs(weight: Array, channels: int) -> NDArray[np.int8]:
    """[O, KH, KW, words] -> [O, channels, KH, KW], or [O, words] -> [O, channels]; int8."""
    return np.moveaxis(bits.unpack_levels(weight, channels, Levels.BIPOLAR), -1, 1)


def _geometry(attributes: dict[str, Any]) -> Geometry:
    return Geometry(
        tuple(attributes["strides"]),
        tuple(attributes["pads"]),
        tuple(attributes["dilations"]),
        attributes["group"],
        attributes["pad_value"],
    )


class _Operator(OpRun):
    op_domain = opset.DOMAIN

    def _read(self) -> dict[str, Any]:
        return {a.name: onnx.helper.get_attribute_value(a) for a in self.onnx_node.attribute}


class PackBipolar(_Operator):
    def _run(self, x: Array, threshold: Array, **_: Any) -> tuple[Array]:
        return (_pack(x, threshold, Levels.BIPOLAR),)


class PackUnipolar(_Operator):
    def _run(self, x: Array, threshold: Array, **_: Any) -> tuple[Array]:
        return (_pack(x, threshold, Levels.UNIPOLAR),)


class PackTernary(_Operator):
    def _run(self, x: Array, **_: Any) -> tuple[Array]:
        return (_pack(x, 0.0, Levels.TERNARY),)


class PackedConv2d(_Operator):
    def _run(self, packed: Array, weight: Array, scale: Array, bias: Array, **_: Any) -> tuple[Array]:
        return (_conv(packed, weight, scale, bias, self._read(), ternary=False),)


class PackedTernaryConv2d(_Operator):
    def _run(self, packed: Array, weight: Array, scale: Array, bias: Array, **_: Any) -> tuple[Array]:
        return (_conv(packed, weight, scale, bias, self._read(), ternary=True),)


class PackedLinear(_Operator):
    def _run(self, packed: Array, weight: Array, scale: Array, bias: Array, **_: Any) -> tuple[Array]:
        return (_linear(packed, weight, scale, bias, self._read(), ternary=False),)


class PackedTernaryLinear(_Operator):
    def _run(self, packed: Array, weight: Array, scale: Array, bias: Array, **_: Any) -> tuple[Array]:
        return (_linear(packed, weight, scale, bias, self._read(), ternary=True),)


class BinaryWeightConv2d(_Operator):
    def _run(self, x: Array, weight: Array, scale: Array, bias: Array, **_: Any) -> tuple[Array]:
        attributes = self._read()
        signs = _signs(weight, attributes["channels"] // attributes["group"])
        return (
            epilogue(convolve_real(x, signs, _geometry(attributes)), scale, bias, channel_axis=1).astype(scale.dtype),
        )


class BinaryWeightLinear(_Operator):
    def _run(self, x: Array, weight: Array, scale: Array, bias: Array, **_: Any) -> tuple[Array]:
        product = x.astype(np.float64) @ _signs(weight, self._read()["channels"]).astype(np.float64).T
        return (epilogue(product, scale, bias, channel_axis=-1).astype(scale.dtype),)


_OPERATORS: list[type[OpRun]] = [
    PackBipolar,
    PackUnipolar,
    PackTernary,
    PackedConv2d,
    PackedTernaryConv2d,
    PackedLinear,
    PackedTernaryLinear,
    BinaryWeightConv2d,
    BinaryWeightLinear,
]
