"""Random 1-bit convolutions: how to run them, and what has to come out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from driver import Conv2d, Library
from hypothesis import strategies as st
from numpy.typing import NDArray

from bnn_deploy.bits import Levels, pack_bits, pack_levels
from bnn_deploy.reference import Geometry, accumulate_conv2d

Array = NDArray[Any]
VALUES = {Levels.BIPOLAR: (-1, 1), Levels.UNIPOLAR: (0, 1), Levels.TERNARY: (-1, 0, 1)}
CODES = {levels: code for code, levels in enumerate(VALUES)}
# What float16 rounds: subnormals, halves between two neighbours, and around its greatest value.
FLOAT16_EDGES = (6e-8, 2.0**-25, -(2.0**-25), 3 * 2.0**-25, 2049.0, 2051.0, 65504.0, 65519.0, 65520.0, -65520.0)
EDGES = np.array(
    (0.0, -0.0, np.nan, np.inf, -np.inf, 1.0, -1.0, 3e38, 1e-45, -1e-45, 1e-39, *FLOAT16_EDGES), np.float32
)
MOST_WORK = 20_000_000  # products of one case: the executor takes its time


@dataclass(frozen=True)
class ConvCase:
    """A convolution.

    Attributes:
        x: [N, C, H, W] int8, levels.
        weight: [O, C / group, KH, KW] int8, -1 or +1.
    """

    levels: Levels
    x: Array
    weight: Array
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilations: tuple[int, int] = (1, 1)
    group: int = 1
    pad_value: int = 0

    def layer(self, activation: str = "", clip: tuple[float, float] = (0.0, 0.0)) -> Conv2d:
        """Its attributes, for the driver."""
        geometry = (self.strides, self.pads, self.dilations, self.group, self.pad_value)
        return Conv2d(self.x.shape[1], CODES[self.levels], *geometry, activation, clip)

    def packed(self) -> Array:
        """[N, H, W, words] int32."""
        return pack_levels(np.ascontiguousarray(np.moveaxis(self.x, 1, -1)), self.levels)

    def weight_bits(self) -> Array:
        """[O, KH, KW, words] int32."""
        return pack_bits(np.ascontiguousarray(np.moveaxis(self.weight, 1, -1)) > 0)

    def accumulators(self) -> Array:
        """What has to come out: [N, O, H', W'] int32."""
        geometry = Geometry(self.strides, self.pads, self.dilations, self.group, float(self.pad_value))
        return accumulate_conv2d(self.x, self.weight, geometry)

    def run(self, library: Library, **options: Any) -> Array:
        """What comes out: [N, O, H', W'] int32."""
        found = library.conv2d(self.layer(), self.packed(), self.weight_bits(), {}, ("accumulator",), **options)
        return found["accumulator"]


def random_case(
    generator: np.random.Generator,
    levels: Levels,
    shape: tuple[int, int, int, int],
    outputs: int,
    kernel: tuple[int, int],
    **geometry: Any,
) -> ConvCase:
    """shape: [N, C, H, W]; geometry: the rest of `ConvCase`."""
    x = generator.choice(np.array(VALUES[levels], np.int8), shape)
    weight_shape = (outputs, shape[1] // geometry.get("group", 1), *kernel)
    return ConvCase(levels, x, generator.choice(np.array((-1, 1), np.int8), weight_shape), **geometry)


@st.composite
def conv_cases(draw: st.DrawFn, groups: bool = False) -> ConvCase:
    """Sizes that fit each other; odd ones are as likely as the usual ones."""
    square = draw(st.sampled_from((1, 3, 5, 7)))
    kernel = draw(st.just((square, square)) | st.tuples(st.integers(1, 4), st.integers(1, 4)))
    dilations = draw(st.just((1, 1)) | st.tuples(st.integers(1, 3), st.integers(1, 3)))
    strides = draw(st.sampled_from(((1, 1), (2, 2), (1, 2), (3, 1), (2, 50))))
    pads = draw(st.just((square // 2,) * 4) | st.tuples(*[st.integers(0, 5)] * 4))
    group = draw(st.sampled_from((2, 3, 4))) if groups else 1
    channels = group * draw(st.sampled_from((1, 3, 8, 31, 32, 33, 64, 96, 100, 128) + (() if groups else (512,))))
    outputs = group * draw(st.integers(1, 40) if groups else st.integers(1, 40) | st.sampled_from((64, 96, 128, 130)))
    widest = int((MOST_WORK / (channels // group * outputs * kernel[0] * kernel[1])) ** 0.5)
    sizes = []
    for axis in range(2):
        least = max(1, dilations[axis] * (kernel[axis] - 1) + 1 - pads[axis] - pads[axis + 2])
        sizes.append(draw(st.integers(least, max(least, min(widest, 23)))))
    return random_case(
        np.random.default_rng(draw(st.integers(0, 2**32 - 1))),
        draw(st.sampled_from(list(Levels))),
        (draw(st.integers(1, 3)), channels, *sizes),
        outputs,
        kernel,
        strides=strides,
        pads=pads,
        dilations=dilations,
        group=group,
        pad_value=draw(st.sampled_from((0, 0, -1, 1))),
    )


def with_edges(generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Normal values, every other one replaced by an edge. float32."""
    x = generator.standard_normal(shape).astype(np.float32)
    return np.where(generator.random(shape) < 0.5, generator.choice(EDGES, shape), x).astype(np.float32)


def round_to(kind: type[np.floating], values: Array) -> Array:
    """float32 or float16, to nearest even; beyond 65520, float16 has infinity."""
    with np.errstate(over="ignore", under="ignore"):
        return values.astype(kind)


def finish(accumulators: Array, operands: Mapping[str, Array], activation: str, clip: tuple[float, float]) -> Array:
    """The epilogue as docs/operators.md states it, each operation rounded to float32. [N, O, H', W'] float32."""
    e = {name: array.reshape(-1, 1, 1) if array.ndim == 1 else array for name, array in operands.items()}
    with np.errstate(all="ignore"):
        z = e["scale"] * accumulators.astype(np.float32)
        z = z + e["bias"]
        if "residual" in e:
            z = z + e["residual"].astype(np.float32)
        if activation == "PRelu":
            z = np.where(z >= 0, z, e["slope"] * z)
            z = z + e["shift"]
        if activation == "Clip":
            low, high = np.float32(clip[0]), np.float32(clip[1])
            z = np.where(z < low, low, z)
            z = np.where(z > high, high, z)
    assert z.dtype == np.float32
    return z


def packed_within(lower: Array, values: Array, upper: Array) -> Array:
    """lower, upper: [O], values: [N, O, H', W'] -> [N, H', W', ceil(O / 32)] int32."""
    channels_last = np.moveaxis(values, 1, -1)
    return pack_bits((lower <= channels_last) & (channels_last <= upper))


def same_bits(found: Array, expected: Array) -> bool:
    """Whether two arrays are equal bit for bit, but that a NaN is a NaN. Zeros have a sign."""
    if found.dtype != expected.dtype or found.shape != expected.shape:
        return False
    if found.dtype.kind != "f":
        return np.array_equal(found, expected)
    return np.array_equal(found, expected, equal_nan=True) and np.array_equal(
        np.signbit(found) & ~np.isnan(found), np.signbit(expected) & ~np.isnan(expected)
    )
