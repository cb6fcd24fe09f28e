"""The packing kernels and the fully connected layer of the native library."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnn_deploy.bits import Levels, binarize, pack_bits, pack_levels, words_for
from bnn_deploy.reference import accumulate_linear

EDGES = np.array([0.0, -0.0, 1e-45, -1e-45, np.nan, np.inf, -np.inf, 0.25, -0.25], np.float32)
KINDS = {Levels.BIPOLAR: 0, Levels.UNIPOLAR: 1, Levels.TERNARY: 2}


def draw_values(seed: int, shape: tuple[int, ...]) -> Any:
    """Normal values, every other one replaced by an edge."""
    generator = np.random.default_rng(seed)
    x = generator.standard_normal(shape).astype(np.float32)
    return np.where(generator.random(shape) < 0.5, generator.choice(EDGES, shape), x)


def run_pack(
    native: Any, toolbox: Any, kernels: str, kind: int, x: Any, lower: Any, upper: Any, planes: int = 1
) -> Any:
    """x: [N, C, P] -> [N, P, planes * words] int32, on two threads."""
    found = np.full((x.shape[0], x.shape[2], planes * words_for(x.shape[1])), 77, np.int32)
    where = toolbox.pointer
    bounds = (where(lower), where(upper), lower.size, upper.size)
    call = toolbox.PackCall(kind, *x.shape, where(x), *bounds, where(found), x.dtype == np.float16)
    native.call("bnn_pack", kernels, 2, call)
    return found


# Up to the words of a pixel, and the pixels, that are packed together and stored each in its own way.
shapes = st.tuples(st.integers(1, 2), st.integers(1, 70) | st.sampled_from((128, 200, 256)), st.integers(1, 150))
seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=60)
@given(shape=shapes, levels=st.sampled_from(list(Levels)), per_channel=st.booleans(), seed=seeds)
def test_pack_is_the_bit_contract(
    native: Any, toolbox: Any, kernels: str, shape: tuple[int, ...], levels: Levels, per_channel: bool, seed: int
) -> None:
    x = draw_values(seed, shape)
    threshold = np.zeros(1, np.float32)
    if per_channel and levels is not Levels.TERNARY:
        threshold = np.random.default_rng(seed).choice(EDGES[:4], shape[1]).astype(np.float32)
    expected = pack_levels(np.moveaxis(binarize(x, levels, threshold[:, None]), 1, -1), levels)
    found = run_pack(native, toolbox, kernels, KINDS[levels], x, threshold, threshold, levels.planes)
    assert np.array_equal(found, expected)


@settings(max_examples=40)
@given(shape=shapes, levels=st.sampled_from(list(Levels)), seed=seeds)
def test_float16_is_widened(
    native: Any, toolbox: Any, kernels: str, shape: tuple[int, ...], levels: Levels, seed: int
) -> None:
    """Thresholds that float16 does not hold: values next to them on either side."""
    generator = np.random.default_rng(seed)
    threshold = generator.choice(np.array([0.1, 1e-9, -1e-9, 70000, 0], np.float32), shape[1])
    x = draw_values(seed, shape)
    with np.errstate(over="ignore"):
        x = np.where(generator.random(shape) < 0.5, threshold[:, None], x).astype(np.float16)
    threshold = np.zeros(1, np.float32) if levels is Levels.TERNARY else threshold
    expected = pack_levels(np.moveaxis(binarize(x.astype(np.float32), levels, threshold[:, None]), 1, -1), levels)
    found = run_pack(native, toolbox, kernels, KINDS[levels], x, threshold, threshold, levels.planes)
    assert np.array_equal(found, expected)


@settings(max_examples=40)
@given(shape=shapes, lower_per_channel=st.booleans(), upper_per_channel=st.booleans(), seed=seeds)
def test_interval(
    native: Any,
    toolbox: Any,
    kernels: str,
    shape: tuple[int, ...],
    lower_per_channel: bool,
    upper_per_channel: bool,
    seed: int,
) -> None:
    x = draw_values(seed, shape)
    lower = draw_values(seed + 1, (shape[1] if lower_per_channel else 1,))
    upper = draw_values(seed + 2, (shape[1] if upper_per_channel else 1,))
    expected = pack_bits(np.moveaxis((lower[:, None] <= x) & (x <= upper[:, None]), 1, -1))
    assert np.array_equal(run_pack(native, toolbox, kernels, 3, x, lower, upper), expected)


def run_linear(native: Any, toolbox: Any, kernels: str, levels: Levels, x: Any, weight: Any, **operands: Any) -> Any:
    """x: [N, C] levels, weight: [O, C] ±1."""
    packed, words = pack_levels(x, levels), pack_bits(weight > 0)
    found = operands.get("y", operands.get("bits"))
    call = toolbox.LinearCall(x.shape[1], toolbox.LEVEL_CODES[levels], x.shape[0], weight.shape[0])
    for name, array in {"packed": packed, "weight": words, **operands}.items():
        setattr(call, name, toolbox.pointer(array))
    native.call("bnn_linear", kernels, 2, call)
    return found


linear_shapes = st.tuples(st.integers(1, 3), st.sampled_from((1, 31, 33, 64, 100, 1100)), st.integers(1, 300))


@settings(max_examples=40)
@given(shape=linear_shapes, levels=st.sampled_from(list(Levels)), seed=seeds)
def test_linear(
    native: Any, toolbox: Any, kernels: str, shape: tuple[int, int, int], levels: Levels, seed: int
) -> None:
    batch, channels, outputs = shape
    generator = np.random.default_rng(seed)
    x = toolbox.levels(generator, levels, (batch, channels))
    weight = toolbox.levels(generator, Levels.BIPOLAR, (outputs, channels))
    scale, bias = generator.standard_normal((2, outputs)).astype(np.float32)
    y = np.full((batch, outputs), 77, np.float32)
    sums = accumulate_linear(x, weight)
    run_linear(native, toolbox, kernels, levels, x, weight, scale=scale, bias=bias, y=y)
    assert np.array_equal(y, scale * sums.astype(np.float32) + bias)

    lower, upper = generator.integers(-20, 20, (2, outputs)).astype(np.int32)
    bits = np.full((batch, words_for(outputs)), 77, np.int32)
    bounds = {"accumulator_lower": lower, "accumulator_upper": upper}
    run_linear(native, toolbox, kernels, levels, x, weight, **bounds, bits=bits)
    assert np.array_equal(bits, pack_bits((lower <= sums) & (sums <= upper)))


def test_a_threshold_of_the_wrong_size_is_refused(native: Any, toolbox: Any) -> None:
    x, threshold = np.zeros((1, 5, 3), np.float32), np.zeros(2, np.float32)
    with pytest.raises(toolbox.NativeError, match="a threshold has shape 2, wanted 1 or 5 values"):
        run_pack(native, toolbox, "scalar", 0, x, threshold, threshold)
