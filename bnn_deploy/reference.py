"""The reference that every backend is held to: integer accumulators, then the epilogue in float64. NumPy, and slow.

It is written to be read. One tap of the kernel at a time, the levels themselves (-1, 0, +1) and no bits: nothing here
is shared with the packed kernels that it judges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Geometry:
    """Where a convolution's taps lie, in pixels. pads: top, left, bottom, right, as in ONNX."""

    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilations: tuple[int, int] = (1, 1)
    group: int = 1
    pad_value: float = 0.0


def accumulate_conv2d(x: NDArray[np.int8], weight: NDArray[np.int8], geometry: Geometry) -> NDArray[np.int32]:
    """The integer sums of a binary convolution.

    Args:
        x: [N, C, H, W] int8, levels.
        weight: [O, C / group, KH, KW] int8, -1 or +1.
        geometry: Strides, padding, dilations, groups; a padded tap contributes `pad_value * weight`.

    Returns:
        [N, O, H', W'] int32.
    """
    # float32 holds every integer below 2**24, and a layer would need as many taps to reach it: the products are exact
    # in any order of summation.
    return _convolve(x.astype(np.float32), weight.astype(np.float32), geometry).astype(np.int32)


def convolve_real(x: NDArray[np.floating], weight: NDArray[Any], geometry: Geometry) -> NDArray[np.float64]:
    """The same with real activations, and weights that need not be 1-bit, in float64."""
    return _convolve(x.astype(np.float64), weight.astype(np.float64), geometry)


def accumulate_linear(x: NDArray[np.int8], weight: NDArray[np.int8]) -> NDArray[np.int32]:
    """x: [..., C] int8, weight: [O, C] int8 -> [..., O] int32."""
    return (x.astype(np.float32) @ weight.astype(np.float32).T).astype(np.int32)


def epilogue(
    accumulator: NDArray[Any], scale: NDArray[Any], bias: NDArray[Any], *, channel_axis: int
) -> NDArray[np.float64]:
    """`scale[o] * accumulator + bias[o]` in float64. scale, bias: [O]; the result has the shape of `accumulator`."""
    shape = [1] * accumulator.ndim
    shape[channel_axis] = -1
    return scale.astype(np.float64).reshape(shape) * accumulator + bias.astype(np.float64).reshape(shape)


def behind_epilogue(
    y: NDArray[np.float64],
    *,
    channel_axis: int,
    residual: NDArray[Any] | None = None,
    slope: NDArray[Any] | None = None,
    shift: NDArray[Any] | None = None,
    clip: tuple[float, float] | None = None,
) -> NDArray[np.float64]:
    """What may follow the epilogue, in the order of `opset.Epilogue`, in float64: residual, PReLU and shift, or clip.

    y, residual: [N, O, H, W]; slope, shift: [O]; clip: (low, high).
    """
    shape = [1] * y.ndim
    shape[channel_axis] = -1
    if residual is not None:
        y = y + residual
    if slope is not None and shift is not None:
        y = np.where(y >= 0, y, slope.astype(np.float64).reshape(shape) * y) + shift.astype(np.float64).reshape(shape)
    return y if clip is None else np.clip(y, *clip)


def _convolve(x: NDArray[Any], weight: NDArray[Any], geometry: Geometry) -> NDArray[Any]:
    top, left, bottom, right = geometry.pads
    framed = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=geometry.pad_value)
    outputs, per_group, kernel_height, kernel_width = weight.shape
    height = (framed.shape[2] - geometry.dilations[0] * (kernel_height - 1) - 1) // geometry.strides[0] + 1
    width = (framed.shape[3] - geometry.dilations[1] * (kernel_width - 1) - 1) // geometry.strides[1] + 1
    accumulator = np.zeros((x.shape[0], outputs, height, width), x.dtype)
    share = outputs // geometry.group
    for group in range(geometry.group):
        channels = slice(group * per_group, (group + 1) * per_group)
        produced = slice(group * share, (group + 1) * share)
        for row in range(kernel_height):
            for column in range(kernel_width):
                first_row, first_column = row * geometry.dilations[0], column * geometry.dilations[1]
                seen = framed[
                    :,
                    channels,
                    first_row : first_row + geometry.strides[0] * (height - 1) + 1 : geometry.strides[0],
                    first_column : first_column + geometry.strides[1] * (width - 1) + 1 : geometry.strides[1],
                ]  # [N, Cg, H', W']
                tap = np.tensordot(weight[produced, :, row, column], seen, axes=(1, 1))  # [Og, N, H', W']
                accumulator[:, produced] += np.moveaxis(tap, 0, 1)
    return accumulator
