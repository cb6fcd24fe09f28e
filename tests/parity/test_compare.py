from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bnn_deploy.bits import Levels
from bnn_deploy.parity.compare import FLOAT_TOLERANCE, Flips, difference, flips, shaped, tolerance_of

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("expected", "found", "error"),
    [
        ([1.0, 2.0], [1.0, 2.5], 0.5),
        ([1.0, NAN], [1.0, NAN], 0.0),
        ([INF, -INF], [INF, -INF], 0.0),
        ([0.0], [-0.0], 0.0),
        ([1.0, 2.0], [1.0, NAN], INF),
        ([1.0, NAN], [1.0, 2.0], INF),
        ([INF], [-INF], INF),
        ([INF], [3.0], INF),
        ([3.0], [INF], INF),
        ([], [], 0.0),
    ],
)
def test_the_largest_difference(expected: list[float], found: list[float], error: float) -> None:
    assert difference(np.float32(expected), np.float32(found)).max_abs_error == error


@pytest.mark.parametrize(("expected", "found"), [((2, 1), (2, 3)), ((2, 3), (1, 3)), ((6,), (2, 3)), ((2,), ())])
def test_arrays_of_different_shapes_never_agree(expected: tuple[int, ...], found: tuple[int, ...]) -> None:
    """NumPy would broadcast most of these."""
    gap = difference(np.ones(expected), np.ones(found))
    assert gap.max_abs_error == INF and not gap.within


@pytest.mark.parametrize(("factor", "within"), [(0.99, True), (1.01, False)])
@pytest.mark.parametrize("size", [1e-20, 1.0, 1e20])
def test_rounding_is_relative_to_the_largest_value(size: float, factor: float, within: bool) -> None:
    expected = np.array([size, -0.5 * size, 0.0, np.inf])
    found = expected + np.array([0, 0, factor * FLOAT_TOLERANCE * size, 0])
    gap = difference(expected, found)
    assert gap.tolerance == FLOAT_TOLERANCE * size
    assert gap.within == within


def test_where_all_is_0_nothing_is_rounding() -> None:
    assert tolerance_of(np.zeros(3)) == 0 and tolerance_of(np.array([NAN, INF])) == 0
    assert difference(np.zeros(3), np.zeros(3)).within
    assert not difference(np.zeros(3), np.full(3, 1e-30)).within


def test_the_difference_is_taken_in_float64() -> None:
    one = np.float32(1)
    assert difference(np.array([one]), np.array([np.nextafter(one, np.float32(2))])).max_abs_error == 2.0**-23
    assert difference(np.array([2**31 - 1], np.int32), np.array([-(2**31)], np.int32)).max_abs_error == 2.0**32 - 1


def level(value: float, levels: Levels) -> int:
    """The bit contract in words: NaN is the lesser level, both zeros are +1, 0 or 0."""
    if levels is Levels.BIPOLAR:
        return 1 if value >= 0 else -1
    if levels is Levels.UNIPOLAR:
        return 1 if value > 0 else 0
    return 1 if value > 0 else 0 if value == 0 else -1


VALUES = st.one_of(
    st.sampled_from([0.0, -0.0, NAN, INF, -INF, 1e-6, -1e-6, 9e-6, -9e-6, 1.1e-5, -1.1e-5]),
    st.floats(-1, 1, width=32),
)


@settings(max_examples=100)
@given(
    hnp.arrays(np.float64, 6, elements=VALUES),
    st.lists(st.sampled_from([-1, 0, 1]), min_size=6, max_size=6),
    st.sampled_from(Levels),
)
def test_flips_one_by_one(expected: np.ndarray, found: list[int], levels: Levels) -> None:
    largest = max((abs(value) for value in expected if math.isfinite(value)), default=0.0)
    count = ties = 0
    for value, other in zip(expected.tolist(), found, strict=True):
        if level(value, levels) != other:
            count += 1
            ties += abs(value) <= FLOAT_TOLERANCE * largest
    flipped = flips(expected, np.array(found), levels)
    assert flipped == Flips(count, ties)
    assert flipped.bugs == count - ties >= 0


def test_levels_that_are_missing_are_flips() -> None:
    """What `shaped` makes of a tensor of the wrong size agrees with nothing."""
    assert flips(np.array([1.0, -1.0, 1e-9]), shaped(np.ones(2), (3,)), Levels.BIPOLAR) == Flips(3, 1)


def test_shaped() -> None:
    rows = np.arange(6).reshape(2, 3)
    assert shaped(rows, (3, 2)).tolist() == [[0, 1], [2, 3], [4, 5]]
    other = shaped(rows, (2, 4))
    assert other.shape == (2, 4) and np.isnan(other).all()
    assert shaped(np.float32(3), ()).shape == ()
