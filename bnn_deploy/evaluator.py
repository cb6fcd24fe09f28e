"""The deploy ops for ONNX's reference evaluator: integer accumulators, float64 epilogues rounded to float32 at the end.

Of a layer on float16 that float32 is rounded once more, when it is stored; the bits are decided before.

One class an op, made from a table; each reads its node's attributes and calls `reference` and `bits`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from bnn_deploy import bits, opset
from bnn_deploy.bits import Levels
from bnn_deploy.reference import (
    Geometry,
    accumulate_conv2d,
    accumulate_linear,
    behind_epilogue,
    convolve_real,
    epilogue,
)

Array = NDArray[Any]
Attributes = Mapping[str, Any]
Compute = Callable[..., tuple[Array, ...]]


def reference_evaluator(model: onnx.ModelProto) -> ReferenceEvaluator:
    """ONNX's evaluator with our operators in place of the model's function bodies, which it would prefer."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.functions[:]
    return ReferenceEvaluator(bare, new_ops=reference_operators())


def reference_operators() -> list[type[OpRun]]:
    """One class for each deploy op, as `ReferenceEvaluator(new_ops=...)` takes them."""
    computations: dict[str, Compute] = {
        opset.PACK_BIPOLAR: lambda a, x, threshold: (_pack_threshold(x, threshold, Levels.BIPOLAR),),
        opset.PACK_UNIPOLAR: lambda a, x, threshold: (_pack_threshold(x, threshold, Levels.UNIPOLAR),),
        opset.PACK_TERNARY: lambda a, x: (_pack(bits.binarize(x, Levels.TERNARY), Levels.TERNARY),),
        opset.PACK_INTERVAL: lambda a, x, lower, upper: (_pack_interval(x, lower, upper),),
        opset.PACKED_TERNARY_CONV2D: _ternary_conv,
        opset.PACKED_LINEAR: _linear,
        opset.PACKED_TERNARY_LINEAR: _ternary_linear,
        opset.BINARY_WEIGHT_CONV2D: _binary_weight_conv,
        opset.BINARY_WEIGHT_LINEAR: _binary_weight_linear,
        opset.PACKED_CONV2D_BITS: lambda a, x, w, low, high: (_pack_interval(_accumulate_conv(a, x, w), low, high),),
        opset.PACKED_LINEAR_BITS: lambda a, x, w, low, high: (_pack_interval(_accumulate_linear(a, x, w), low, high),),
        opset.PACKED_MAX_POOL2D: _max_pool,
        opset.STEM_CONV2D_MAX_POOL: _stem,
        opset.AVERAGE_POOL2D: lambda a, x: (_average(a, x).astype(x.dtype),),
        opset.AVERAGE_POOL_CONV2D: _average_conv,
        **{op_type: _fused_conv(described) for op_type, described in opset.EPILOGUES.items()},
    }
    halves = {name: _on_float16(computations[op_type]) for op_type, name in opset.FLOAT16_OPS.items()}
    return [_operator(op_type, compute) for op_type, compute in (computations | halves).items()]


def _operator(op_type: str, compute: Compute) -> type[OpRun]:
    def run(self: OpRun, *operands: Array, **_: Any) -> tuple[Array, ...]:
        attributes = {entry.name: onnx.helper.get_attribute_value(entry) for entry in self.onnx_node.attribute}
        return compute(attributes, *operands)

    return type(op_type, (OpRun,), {"op_domain": opset.DOMAIN, "_run": run})


def _on_float16(compute: Compute) -> Compute:
    """The same layer with a float16 y: what `compute` gives in float32, rounded; what it reads it widens itself."""

    def half(attributes: Attributes, *operands: Array) -> tuple[Array, ...]:
        y, *bits_if_any = compute(attributes, *operands)
        with np.errstate(over="ignore"):  # beyond 65504 it is infinite
            return (y.astype(np.float16), *bits_if_any)

    return half


def _pack(values: NDArray[np.int8], levels: Levels) -> Array:
    """values: [N, C, *spatial] -> [N, *spatial, words]."""
    return bits.pack_levels(np.moveaxis(values, 1, -1), levels)


def _per_channel(array: Array, rank: int) -> Array:
    return np.reshape(array, (1, -1, *[1] * (rank - 2)))


def _pack_threshold(x: Array, threshold: Array, levels: Levels) -> Array:
    return _pack(bits.binarize(x, levels, _per_channel(threshold, x.ndim)), levels)


def _pack_interval(x: Array, lower: Array, upper: Array) -> Array:
    inside = (_per_channel(lower, x.ndim) <= x) & (x <= _per_channel(upper, x.ndim))
    return _pack(inside.astype(np.int8), Levels.UNIPOLAR)


def _unpack(attributes: Attributes, packed: Array, levels: Levels | None = None) -> NDArray[np.int8]:
    """packed: [N, *spatial, words] -> [N, C, *spatial]."""
    if levels is None:
        levels = Levels.BIPOLAR if attributes["low"] == -1.0 else Levels.UNIPOLAR
    return np.moveaxis(bits.unpack_levels(packed, attributes["channels"], levels), -1, 1)


def _signs(attributes: Attributes, weight: Array) -> NDArray[np.int8]:
    """[O, KH, KW, words] -> [O, C / group, KH, KW], or [O, words] -> [O, C]; int8."""
    channels = attributes["channels"] // attributes.get("group", 1)
    return np.moveaxis(bits.unpack_levels(weight, channels, Levels.BIPOLAR), -1, 1)


def _geometry(attributes: Attributes) -> Geometry:
    return Geometry(
        tuple(attributes["strides"]),
        tuple(attributes["pads"]),
        tuple(attributes["dilations"]),
        attributes["group"],
        attributes["pad_value"],
    )


def _accumulate_conv(attributes: Attributes, packed: Array, weight: Array, levels: Levels | None = None) -> Array:
    return accumulate_conv2d(_unpack(attributes, packed, levels), _signs(attributes, weight), _geometry(attributes))


def _accumulate_linear(attributes: Attributes, packed: Array, weight: Array, levels: Levels | None = None) -> Array:
    return accumulate_linear(_unpack(attributes, packed, levels), _signs(attributes, weight))


def _fused_conv(described: opset.Epilogue) -> Compute:
    def compute(
        attributes: Attributes, packed: Array, weight: Array, scale: Array, bias: Array, *rest: Array
    ) -> tuple[Array, ...]:
        operand = dict(zip(described.operands, rest, strict=True))
        y = behind_epilogue(
            epilogue(_accumulate_conv(attributes, packed, weight), scale, bias, channel_axis=1),
            channel_axis=1,
            residual=operand.get("residual"),
            slope=operand.get("slope"),
            shift=operand.get("shift"),
            clip=(attributes["clip_low"], attributes["clip_high"]) if described.activation == opset.CLIP else None,
        ).astype(scale.dtype)
        return (y, _pack_interval(y, operand["lower"], operand["upper"])) if described.packs else (y,)

    return compute


def _ternary_conv(attributes: Attributes, packed: Array, weight: Array, scale: Array, bias: Array) -> tuple[Array]:
    accumulator = _accumulate_conv(attributes, packed, weight, Levels.TERNARY)
    return (epilogue(accumulator, scale, bias, channel_axis=1).astype(scale.dtype),)


def _linear(attributes: Attributes, packed: Array, weight: Array, scale: Array, bias: Array) -> tuple[Array]:
    accumulator = _accumulate_linear(attributes, packed, weight)
    return (epilogue(accumulator, scale, bias, channel_axis=-1).astype(scale.dtype),)


def _ternary_linear(attributes: Attributes, packed: Array, weight: Array, scale: Array, bias: Array) -> tuple[Array]:
    accumulator = _accumulate_linear(attributes, packed, weight, Levels.TERNARY)
    return (epilogue(accumulator, scale, bias, channel_axis=-1).astype(scale.dtype),)


def _binary_weight_conv(attributes: Attributes, x: Array, weight: Array, scale: Array, bias: Array) -> tuple[Array]:
    sums = convolve_real(x, _signs(attributes, weight), _geometry(attributes))
    return (epilogue(sums, scale, bias, channel_axis=1).astype(scale.dtype),)


def _binary_weight_linear(attributes: Attributes, x: Array, weight: Array, scale: Array, bias: Array) -> tuple[Array]:
    sums = x.astype(np.float64) @ _signs(attributes, weight).astype(np.float64).T
    return (epilogue(sums, scale, bias, channel_axis=-1).astype(scale.dtype),)


def _max_pool(attributes: Attributes, packed: Array, flip: Array) -> tuple[Array]:
    """flip ^ OR over the window of (packed ^ flip); a padded pixel is 0 behind the flip."""
    top, left, bottom, right = attributes["pads"]
    (kernel_height, kernel_width), strides = attributes["kernel_shape"], attributes["strides"]
    framed = np.pad(packed ^ flip, ((0, 0), (top, bottom), (left, right), (0, 0)))
    height = (framed.shape[1] - kernel_height) // strides[0] + 1
    width = (framed.shape[2] - kernel_width) // strides[1] + 1
    pooled = np.zeros((packed.shape[0], height, width, packed.shape[3]), packed.dtype)
    for row in range(kernel_height):
        for column in range(kernel_width):
            rows = slice(row, row + strides[0] * (height - 1) + 1, strides[0])
            columns = slice(column, column + strides[1] * (width - 1) + 1, strides[1])
            pooled |= framed[:, rows, columns]
    return (pooled ^ flip,)


def _stem(attributes: Attributes, x: Array, weight: Array, bias: Array) -> tuple[Array]:
    sums = convolve_real(x, weight, Geometry(opset.STEM_STRIDES, tuple(attributes["pads"])))
    window, strides = opset.STEM_POOL["kernel_shape"], opset.STEM_POOL["strides"]
    top, left, bottom, right = opset.STEM_POOL["pads"]
    frame = ((0, 0), (0, 0), (top, bottom), (left, right))
    biased = np.pad(sums + _per_channel(bias, x.ndim), frame, constant_values=-np.inf)
    return (_windows(biased, window, strides).max(axis=(-2, -1)).astype(x.dtype),)


def _average(attributes: Attributes, x: Array) -> NDArray[np.float64]:
    return _windows(x.astype(np.float64), attributes["kernel_shape"], attributes["strides"]).mean(axis=(-2, -1))


def _average_conv(attributes: Attributes, x: Array, weight: Array, bias: Array) -> tuple[Array]:
    sums = convolve_real(_average(attributes, x), weight, Geometry())
    return ((sums + _per_channel(bias, x.ndim)).astype(x.dtype),)


def _windows(x: Array, kernel: Sequence[int], strides: Sequence[int]) -> Array:
    """[N, C, H, W] -> [N, C, H', W', KH, KW]."""
    windows = np.lib.stride_tricks.sliding_window_view(x, tuple(kernel), (2, 3))
    return windows[:, :, :: strides[0], :: strides[1]]
