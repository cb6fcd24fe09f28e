"""Every op of ours by definition, in float64, for ONNX's reference evaluator.

Nothing here is shared with the library: levels are decided one value at a time, bits are read with shifts, convolutions
are sums over windows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

DOMAIN = "bnn_deploy"
Array = NDArray[Any]


def level_of(value: float, levels: str) -> int:
    """One value, decided in Python: NaN compares false with everything and so is the lesser level."""
    if value > 0:
        return 1
    if levels == "unipolar":
        return 0
    if value == 0:
        return 1 if levels == "bipolar" else 0
    return -1


def binarize(x: Array, levels: str) -> Array:
    return np.array([level_of(float(value), levels) for value in x.flat], dtype=x.dtype).reshape(x.shape)


def convolve(x: Array, weight: Array, attributes: Mapping[str, Any]) -> Array:
    """By definition, in float64: for every output pixel the sum over its window.

    x: [N, C, H, W], weight: [O, C / group, KH, KW].
    """
    top, left, bottom, right = attributes["pads"]
    frame = np.full(
        (*x.shape[:2], x.shape[2] + top + bottom, x.shape[3] + left + right), float(attributes["pad_value"])
    )
    frame[:, :, top : top + x.shape[2], left : left + x.shape[3]] = x
    (dy, dx), (sy, sx) = attributes["dilations"], attributes["strides"]
    outputs, width, kernel_rows, kernel_columns = weight.shape
    rows = (frame.shape[2] - dy * (kernel_rows - 1) - 1) // sy + 1
    columns = (frame.shape[3] - dx * (kernel_columns - 1) - 1) // sx + 1
    y = np.zeros((x.shape[0], outputs, rows, columns))
    for o in range(outputs):
        first = o // (outputs // attributes["group"]) * width
        for i in range(rows):
            for j in range(columns):
                y0, x0 = i * sy, j * sx
                window = frame[
                    :,
                    first : first + width,
                    y0 : y0 + dy * (kernel_rows - 1) + 1 : dy,
                    x0 : x0 + dx * (kernel_columns - 1) + 1 : dx,
                ]
                y[:, o, i, j] = (window * weight[o]).sum(axis=(1, 2, 3))
    return y


def bits_of(words: Array, channels: int) -> Array:
    """[..., W] int32 -> [..., channels] of 0 and 1; bit i of word j is channel 32 j + i."""
    taken = [(words[..., channel // 32].astype(np.int64) >> (channel % 32)) & 1 for channel in range(channels)]
    return np.stack(taken, axis=-1)


def levels_of(packed: Array, channels: int, low: float | None) -> Array:
    """[..., words] int32 -> [..., channels]; `low` None means ternary, two planes."""
    if low is None:
        half = packed.shape[-1] // 2
        return bits_of(packed[..., :half], channels) - bits_of(packed[..., half:], channels)
    return np.where(bits_of(packed, channels) == 1, 1.0, low)


def binary_weight(weight: Array, attributes: Mapping[str, Any]) -> Array:
    """alpha * sign(w) in float64."""
    latent = weight.astype(np.float64)
    magnitude = np.minimum(np.abs(latent), 1) if attributes["weight_clamp"] else np.abs(latent)
    shape = (latent.shape[0], *[1] * (latent.ndim - 1))
    alpha = {
        "none": np.ones(shape),
        "tensor": np.full(shape, magnitude.mean()),
        "channel": magnitude.mean(axis=tuple(range(1, latent.ndim))).reshape(shape),
    }[attributes["weight_scale"]]
    return alpha * binarize(latent, "bipolar" if attributes["weight_zero"] == "one" else "ternary")


class _Operator(OpRun):
    op_domain = DOMAIN

    def attributes(self) -> dict[str, Any]:
        found = {entry.name: onnx.helper.get_attribute_value(entry) for entry in self.onnx_node.attribute}
        return {name: value.decode() if isinstance(value, bytes) else value for name, value in found.items()}


class Binarize(_Operator):
    def _run(self, x: Array, **_: Any) -> tuple[Array]:
        return (binarize(x, self.attributes()["levels"]),)


class BinaryConv2d(_Operator):
    def _run(self, x: Array, weight: Array, bias: Array | None = None, **_: Any) -> tuple[Array]:
        y = convolve(x, binary_weight(weight, self.attributes()), self.attributes())
        return ((y if bias is None else y + bias.astype(np.float64)[:, None, None]).astype(x.dtype),)


class BinaryLinear(_Operator):
    def _run(self, x: Array, weight: Array, bias: Array | None = None, **_: Any) -> tuple[Array]:
        y = x.astype(np.float64) @ binary_weight(weight, self.attributes()).T
        return ((y if bias is None else y + bias.astype(np.float64)).astype(x.dtype),)


def pack(hits: Array) -> Array:
    """hits: [N, C, *spatial] bool -> [N, *spatial, ceil(C / 32)] int32."""
    last = np.moveaxis(hits, 1, -1)
    words = np.zeros((*last.shape[:-1], -(-last.shape[-1] // 32)), np.int64)
    for channel in range(last.shape[-1]):
        words[..., channel // 32] |= last[..., channel].astype(np.int64) << (channel % 32)
    return words.astype(np.uint32).view(np.int32)


def per_channel(array: Array, rank: int) -> Array:
    """[C] or [1] -> something that broadcasts against [N, C, *spatial]."""
    return array.reshape(-1, *[1] * (rank - 2))


def inside(x: Array, lower: Array, upper: Array) -> Array:
    return (x >= per_channel(lower, x.ndim)) & (x <= per_channel(upper, x.ndim))


class PackBipolar(_Operator):
    def _run(self, x: Array, threshold: Array, **_: Any) -> tuple[Array]:
        return (pack(x >= per_channel(threshold, x.ndim)),)


class PackUnipolar(_Operator):
    def _run(self, x: Array, threshold: Array, **_: Any) -> tuple[Array]:
        return (pack(x > per_channel(threshold, x.ndim)),)


class PackTernary(_Operator):
    def _run(self, x: Array, **_: Any) -> tuple[Array]:
        return (np.concatenate([pack(x > 0), pack(~(x >= 0))], axis=-1),)


class PackInterval(_Operator):
    def _run(self, x: Array, lower: Array, upper: Array, **_: Any) -> tuple[Array]:
        return (pack(inside(x, lower, upper)),)


class PackedMaxPool2d(_Operator):
    def _run(self, x: Array, flip: Array, **_: Any) -> tuple[Array]:
        """Window by window: any bit of it, or all bits of it where the channel is flipped. Padding does not count."""
        given, channels = self.attributes(), 32 * x.shape[-1]
        hits, all_of = bits_of(x, channels) == 1, bits_of(flip, channels) == 1
        (top, left, bottom, right), strides = given["pads"], given["strides"]
        frame = np.pad(hits ^ all_of, ((0, 0), (top, bottom), (left, right), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(frame, given["kernel_shape"], (1, 2))
        pooled = windows[:, :: strides[0], :: strides[1]].any(axis=(-2, -1)) ^ all_of
        return (pack(np.moveaxis(pooled, -1, 1)),)


def pool(x: Array, kernel: Sequence[int], strides: Sequence[int], of: Callable[[Array], Array]) -> Array:
    """Window by window, without padding. x: [N, C, H, W]."""
    rows, columns = ((x.shape[2 + i] - kernel[i]) // strides[i] + 1 for i in (0, 1))
    y = np.zeros((*x.shape[:2], rows, columns))
    for i in range(rows):
        for j in range(columns):
            y0, x0 = i * strides[0], j * strides[1]
            y[:, :, i, j] = of(x[:, :, y0 : y0 + kernel[0], x0 : x0 + kernel[1]].reshape(*x.shape[:2], -1))
    return y


def average(windows: Array) -> Array:
    return windows.astype(np.float64).sum(axis=-1) / windows.shape[-1]


class StemConv2dMaxPool(_Operator):
    """A convolution of stride 2, then the largest of 3x3 with stride 2 and a padding of 1."""

    def _run(self, x: Array, weight: Array, bias: Array, **_: Any) -> tuple[Array]:
        geometry = {"strides": [2, 2], "dilations": [1, 1], "group": 1, "pad_value": 0.0, **self.attributes()}
        y = convolve(x, weight, geometry) + bias.astype(np.float64)[:, None, None]
        frame = np.pad(y, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
        return (pool(frame, (3, 3), (2, 2), lambda windows: windows.max(axis=-1)).astype(x.dtype),)


class AveragePool2d(_Operator):
    def _run(self, x: Array, **_: Any) -> tuple[Array]:
        given = self.attributes()
        return (pool(x, given["kernel_shape"], given["strides"], average).astype(x.dtype),)


class AveragePoolConv2d(_Operator):
    def _run(self, x: Array, weight: Array, bias: Array, **_: Any) -> tuple[Array]:
        given = self.attributes()
        means = pool(x, given["kernel_shape"], given["strides"], average)
        y = np.einsum("nchw,oc->nohw", means, weight[:, :, 0, 0].astype(np.float64))
        return ((y + bias.astype(np.float64)[:, None, None]).astype(x.dtype),)


class _Layer(_Operator):
    """x: packed, or [N, C, H, W] or [N, C] real; weight: packed. Convolutions have strides."""

    def accumulate(self, x: Array, weight: Array) -> Array:
        given = self.attributes()
        if np.issubdtype(x.dtype, np.integer):
            x = np.moveaxis(levels_of(x, given["channels"], given.get("low")), -1, 1)
        signs = levels_of(weight, given["channels"] // given.get("group", 1), -1.0)
        return convolve(x, np.moveaxis(signs, -1, 1), given) if "strides" in given else x.astype(np.float64) @ signs.T


class _ScaledLayer(_Layer):
    """`scale * accumulator + bias`, then what the name says: Add, PRelu or Clip, Pack."""

    def _run(self, x: Array, weight: Array, scale: Array, bias: Array, *rest: Array, **_: Any) -> tuple[Array, ...]:
        name, given, operands = type(self).__name__, self.attributes(), list(rest)
        y = self.accumulate(x, weight)
        y = per_channel(scale.astype(np.float64), y.ndim) * y + per_channel(bias.astype(np.float64), y.ndim)
        if "Add" in name:
            y = y + operands.pop(0)
        if "PRelu" in name:
            slope, shift = (per_channel(operands.pop(0).astype(np.float64), y.ndim) for _ in range(2))
            y = np.where(y >= 0, y, slope * y) + shift
        if "Clip" in name:
            y = np.clip(y, given["clip_low"], given["clip_high"])
        y = y.astype(scale.dtype)
        return (y, pack(inside(y, *operands))) if name.endswith("Pack") else (y,)


class _BitsLayer(_Layer):
    def _run(self, x: Array, weight: Array, lower: Array, upper: Array, **_: Any) -> tuple[Array]:
        return (pack(inside(self.accumulate(x, weight), lower, upper)),)


SCALED_LAYERS = (
    "BinaryWeightConv2d",
    "BinaryWeightLinear",
    "PackedLinear",
    "PackedTernaryConv2d",
    "PackedTernaryLinear",
    *(f"PackedConv2d{add}{act}{pk}" for add in ("", "Add") for act in ("", "PRelu", "Clip") for pk in ("", "Pack")),
)
OPERATORS: list[type[OpRun]] = [
    Binarize,
    BinaryConv2d,
    BinaryLinear,
    PackBipolar,
    PackUnipolar,
    PackTernary,
    PackInterval,
    PackedMaxPool2d,
    StemConv2dMaxPool,
    AveragePool2d,
    AveragePoolConv2d,
    *(type(name, (_ScaledLayer,), {}) for name in SCALED_LAYERS),
    *(type(name, (_BitsLayer,), {}) for name in ("PackedConv2dBits", "PackedLinearBits")),
]


def as_proto(model: ir.Model | onnx.ModelProto) -> onnx.ModelProto:
    return model if isinstance(model, onnx.ModelProto) else ir.to_proto(model)


def evaluate(model: ir.Model | onnx.ModelProto, **feeds: Array) -> list[Array]:
    """The outputs, computed by definition. Functions in the model are ignored.

    Fed with float64, the whole model computes in float64: its float32 constants count as the exact numbers they are.
    """
    bare = onnx.ModelProto()
    bare.CopyFrom(as_proto(model))
    del bare.functions[:]
    if any(array.dtype == np.float64 for array in feeds.values()):
        for tensor in bare.graph.initializer:
            if tensor.data_type == onnx.TensorProto.FLOAT:
                array = onnx.numpy_helper.to_array(tensor).astype(np.float64)
                tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    with np.errstate(all="ignore"):
        outputs: Any = ReferenceEvaluator(bare, new_ops=OPERATORS).run(None, feeds)
    return outputs
