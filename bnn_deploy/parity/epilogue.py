"""What a 1-bit layer may make of its accumulator: the documented float32 operations, bit for bit, and their bound.

    z = scale * accumulator;  z = z + bias;  z = z + residual;  z = z if z >= 0 else slope * z;  z = z + shift;  clip

Accumulators are integers, so nothing else can differ but the rounding of these few operations. Two evaluations are
right: the documented one, each operation rounded to float32, and a more accurate one that computes `scale * accumulator
+ bias` (with a fused multiply-add) or all of it before it rounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnn_deploy.reference import behind_epilogue, convolve_real, epilogue
from bnn_deploy.runners.base import LayerRecord

Operands = Mapping[str, NDArray[Any]]
ROUNDINGS = 6  # scale, bias, residual, slope, shift, and one where the result is stored as float16


def exact_epilogue(
    accumulator: NDArray[Any], operands: Operands, clip: tuple[float, float] | None, channel_axis: int
) -> NDArray[np.float64]:
    """The epilogue in float64. accumulator, operands["residual"]: [N, O, ...]; the other operands: [O]."""
    return behind_epilogue(
        epilogue(accumulator, operands["scale"], operands["bias"], channel_axis=channel_axis),
        channel_axis=channel_axis,
        residual=operands.get("residual"),
        slope=operands.get("slope"),
        shift=operands.get("shift"),
        clip=clip,
    )


def epilogue_mismatches(
    found: NDArray[np.floating],
    accumulator: NDArray[np.int32],
    operands: Operands,
    clip: tuple[float, float] | None,
    channel_axis: int,
) -> int:
    """How many values of `found` are neither the documented result nor one of the more accurate ones."""
    shape = [1] * accumulator.ndim
    shape[channel_axis] = -1
    channel = {
        name: np.asarray(array, np.float32).reshape(shape) for name, array in operands.items() if name != "residual"
    }
    integers = accumulator.astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        documented = (channel["scale"] * integers).astype(np.float32) + channel["bias"]
        # The product of 24 bits with an accumulator of 24 fits float64: this is what a fused multiply-add rounds.
        contracted = (channel["scale"].astype(np.float64) * accumulator + channel["bias"]).astype(np.float32)
        right = np.zeros(found.shape, bool)
        for z in (documented, contracted):
            right |= _same(found, _behind(z, operands, channel, clip))
        right |= _same(found, exact_epilogue(accumulator, operands, clip, channel_axis).astype(np.float32))
    return int((~right).sum())


def _behind(
    z: NDArray[np.float32], operands: Operands, channel: Operands, clip: tuple[float, float] | None
) -> NDArray[np.float32]:
    if "residual" in operands:
        z = z + operands["residual"].astype(np.float32)
    if "slope" in channel:
        z = np.where(z >= 0, z, channel["slope"] * z) + channel["shift"]
    return z if clip is None else np.clip(z, np.float32(clip[0]), np.float32(clip[1]))


def _same(found: NDArray[np.floating], expected: NDArray[np.float32]) -> NDArray[np.bool_]:
    # Of float16, what float32 rounds to.
    rounded = expected.astype(found.dtype)
    return np.asarray((found == rounded) | (np.isnan(found) & np.isnan(rounded)))


def epilogue_bound(
    accumulator: NDArray[Any],
    error: NDArray[np.float64] | float,
    operands: Operands,
    channel_axis: int,
    unit_roundoff: float,
) -> NDArray[np.float64]:
    """A bound on the rounding of the epilogue: every partial result is at most M, and at most six are rounded.

    M = L (|scale| (|accumulator| + error) + |bias| + |residual|) + |shift| with L = max(1, |slope|); the error of the
    accumulator itself is carried on by L |scale|. Six roundings make at most gamma_6 M.
    """
    shape = [1] * accumulator.ndim
    shape[channel_axis] = -1
    channel = {
        name: np.abs(array.astype(np.float64)).reshape(shape) for name, array in operands.items() if name != "residual"
    }
    steepest = np.maximum(1.0, channel.get("slope", np.float64(1)))
    magnitude = channel["scale"] * (np.abs(accumulator.astype(np.float64)) + error) + channel["bias"]
    if "residual" in operands:
        magnitude = magnitude + np.abs(operands["residual"].astype(np.float64))
    magnitude = steepest * magnitude + channel.get("shift", np.float64(0))
    gamma = ROUNDINGS * unit_roundoff / (1 - ROUNDINGS * unit_roundoff)
    carried = steepest * channel["scale"] * error
    smallest = 2.0**-149 if unit_roundoff < 2.0**-20 else 2.0**-24
    return np.asarray(carried + gamma * magnitude + ROUNDINGS * smallest)


def real_accumulator(record: LayerRecord, unit_roundoff: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The sums of a layer with real activations from their exact values, and a bound on them.

    |sum' - sum| <= sum(e) + gamma_(K+2) sum(|x| + e) over the K taps, whose weights are ±1.

    Raises:
        ValueError: The activations were not analysed.
    """
    if record.exact_x is None:
        raise ValueError(f"{record.name}: no exact activations")
    terms = int(np.prod(record.weight.shape[1:])) + 2
    gamma = terms * unit_roundoff / (1 - terms * unit_roundoff)
    ones = np.ones_like(record.weight)
    x, error = record.exact_x.value, record.exact_x.bound
    geometry = record.geometry
    if geometry is None:
        sums, carried, magnitude = (
            np.asarray(values @ weight.astype(np.float64).T)
            for values, weight in ((x, record.weight), (error, ones), (np.abs(x) + error, ones))
        )
    else:
        sums = convolve_real(x, record.weight, geometry)
        carried = convolve_real(error, ones, replace(geometry, pad_value=0.0))
        magnitude = convolve_real(np.abs(x) + error, ones, replace(geometry, pad_value=abs(geometry.pad_value)))
    return sums, carried + gamma * magnitude
