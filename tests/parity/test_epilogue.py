"""The epilogue bit for bit, against scalar arithmetic, and its bound."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnn_deploy.parity.epilogue import epilogue_bound, epilogue_mismatches, exact_epilogue

UNIT = 2.0**-24
FINITE = st.floats(-100, 100, width=32, allow_subnormal=False)


def scalar(
    acc: int, operands: dict[str, float], residual: float | None, clip: tuple[float, float] | None
) -> np.float32:
    """As docs/operators.md has it, one operation at a time."""
    z = np.float32(np.float32(operands["scale"]) * np.float32(acc))
    z = np.float32(z + np.float32(operands["bias"]))
    if residual is not None:
        z = np.float32(z + np.float32(residual))
    if "slope" in operands:
        z = z if z >= 0 else np.float32(np.float32(operands["slope"]) * z)
        z = np.float32(z + np.float32(operands["shift"]))
    return z if clip is None else np.float32(min(max(z, np.float32(clip[0])), np.float32(clip[1])))


@settings(max_examples=150)
@given(
    st.integers(-4608, 4608),
    FINITE,
    FINITE,
    st.one_of(st.none(), FINITE),
    st.one_of(st.none(), st.tuples(FINITE, FINITE)),
    st.sampled_from([None, (-1.0, 1.0)]),
)
def test_documented_arithmetic_is_right_and_within_its_bound(
    acc: int, scale: float, bias: float, residual: Any, prelu: Any, clip: Any
) -> None:
    clip = None if prelu else clip
    channel = {"scale": scale, "bias": bias}
    if prelu:
        channel |= {"slope": prelu[0], "shift": prelu[1]}
    y = np.full((1, 1, 1, 1), scalar(acc, channel, residual, clip), np.float32)
    accumulator = np.full((1, 1, 1, 1), acc, np.int32)
    operands = {name: np.float32([value]) for name, value in channel.items()}
    if residual is not None:
        operands["residual"] = np.full((1, 1, 1, 1), residual, np.float32)
    assert epilogue_mismatches(y, accumulator, operands, clip, 1) == 0
    bound = epilogue_bound(accumulator, 0.0, operands, 1, UNIT)
    assert abs(y.astype(np.float64) - exact_epilogue(accumulator, operands, clip, 1)) <= bound


@pytest.mark.parametrize("step", [-1, 1])
def test_one_unit_in_the_last_place_is_a_mismatch(step: int) -> None:
    operands = {"scale": np.float32([0.37]), "bias": np.float32([0.01])}
    accumulator = np.arange(1, 101, dtype=np.int32).reshape(1, 1, 10, 10)
    documented = np.float32(0.37) * accumulator.astype(np.float32) + np.float32(0.01)
    assert epilogue_mismatches(documented, accumulator, operands, None, 1) == 0
    off = np.nextafter(documented, np.float32(step * np.inf))
    # A unit beside the documented value may be what a more accurate evaluation rounds to, but hardly ever.
    assert epilogue_mismatches(off, accumulator, operands, None, 1) > 80
    other_scale = {**operands, "scale": np.nextafter(operands["scale"], np.float32(np.inf))}
    assert epilogue_mismatches(documented, accumulator, other_scale, None, 1) > 0


def test_a_fused_multiply_add_and_a_single_rounding_are_right() -> None:
    generator = np.random.default_rng(0)
    operands: dict[str, Any] = {
        "scale": generator.random(4, np.float32), "bias": generator.standard_normal(4).astype(np.float32),
        "residual": generator.standard_normal((2, 4, 3, 3)).astype(np.float32),
    }  # fmt: skip
    accumulator = generator.integers(-500, 500, (2, 4, 3, 3)).astype(np.int32)
    shape = (1, 4, 1, 1)
    scale, bias = (operands[name].astype(np.float64).reshape(shape) for name in ("scale", "bias"))
    contracted = (scale * accumulator + bias).astype(np.float32) + operands["residual"]
    once = exact_epilogue(accumulator, operands, None, 1).astype(np.float32)
    for y in (contracted, once):
        assert epilogue_mismatches(y, accumulator, operands, None, 1) == 0


def test_of_float16_the_float32_result_is_rounded() -> None:
    operands = {"scale": np.float32([0.1]), "bias": np.float32([0.0])}
    accumulator = np.arange(-8, 8, dtype=np.int32).reshape(1, 1, 4, 4)
    y = (np.float32(0.1) * accumulator.astype(np.float32)).astype(np.float16)
    assert epilogue_mismatches(y, accumulator, operands, None, 1) == 0
    assert epilogue_mismatches(np.nextafter(y, np.float16(9)), accumulator, operands, None, 1) > 0
