from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bnn_deploy.bits import Levels
from bnn_deploy.parity.compare import FLOAT_TOLERANCE, allowance, difference, flips, shaped, tolerance_of
from bnn_deploy.runners.base import Exact

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


def test_of_zeros_alone_rounding_is_told_in_units() -> None:
    """They have no magnitude; what adds up to 0 may well miss it."""
    assert tolerance_of(np.zeros(3)) == tolerance_of(np.array([NAN, INF])) == FLOAT_TOLERANCE
    assert difference(np.zeros(3), np.zeros(3)).within
    assert difference(np.zeros(3), np.full(3, 1e-30)).within
    assert not difference(np.zeros(3), np.full(3, 1e-4)).within
    assert not difference(np.zeros(3), np.full(3, 1e-30), np.zeros(3)).within


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
    assert (flipped.count, flipped.ties) == (count, ties)
    assert flipped.bugs == count - ties >= 0
    assert sum(flipped.distances) == count and sum(flipped.distances[:4]) == ties


def test_levels_that_are_missing_are_flips() -> None:
    """What `shaped` makes of a tensor of the wrong size agrees with nothing."""
    flipped = flips(np.array([1.0, -1.0, 1e-9]), shaped(np.ones(2), (3,)), Levels.BIPOLAR)
    assert (flipped.count, flipped.ties) == (3, 1)
    assert flipped.distances == (1, 0, 0, 0, 0, 0, 2, 0)  # 1 / 1e-5 is below 1e6


def test_shaped() -> None:
    rows = np.arange(6).reshape(2, 3)
    assert shaped(rows, (3, 2)).tolist() == [[0, 1], [2, 3], [4, 5]]
    other = shaped(rows, (2, 4))
    assert other.shape == (2, 4) and np.isnan(other).all()
    assert shaped(np.float32(3), ()).shape == ()


class TestBounds:
    """Element by element, where an analysis proves what rounding may amount to."""

    def test_the_smaller_of_what_is_proven_and_what_is_stated(self) -> None:
        expected, bound = np.array([1.0, 1.0, 1.0]), np.array([1e-7, 1.0, NAN])
        assert allowance(expected, bound).tolist() == [1e-7, FLOAT_TOLERANCE, FLOAT_TOLERANCE]
        assert allowance(expected, None).tolist() == [FLOAT_TOLERANCE] * 3

    def test_a_coarser_type_is_stated_more(self) -> None:
        (stated,) = allowance(np.array([1.0]), None, unit_roundoff=2.0**-11)
        assert stated == FLOAT_TOLERANCE * 2**13

    @pytest.mark.parametrize(("errors", "within", "used"), [((0, 9e-8), True, 0.9), ((2e-9, 0), False, 2.0)])
    def test_each_element_has_its_own(self, errors: tuple[float, float], within: bool, used: float) -> None:
        expected, bound = np.array([1.0, 1.0]), np.array([1e-9, 1e-7])
        gap = difference(expected, expected + np.array(errors), bound)
        assert (gap.within, gap.bound) == (within, 1e-7)
        assert gap.used == pytest.approx(used, rel=1e-6)

    def test_no_error_is_within_no_bound(self) -> None:
        gap = difference(np.zeros(2), np.zeros(2), np.zeros(2))
        assert gap.within and gap.used == 0

    def test_units_in_the_last_place_are_those_of_the_found_type(self) -> None:
        expected = np.array([1.0])
        assert difference(expected, np.float32([1 + 2**-22])).max_ulp_error == 2
        assert difference(expected, np.float16([1 + 2**-9])).max_ulp_error == 2

    def test_a_flip_of_the_file_is_a_tie_within_its_bound(self) -> None:
        value = np.array([1e-7, 2e-7, 1.0])
        exact = Exact(value, np.array([1.5e-7, 1.5e-7, 1e-7]))
        flipped = flips(value.astype(np.float32), -np.ones(3), Levels.BIPOLAR, exact)
        assert (flipped.count, flipped.ties) == (3, 1)
        assert flipped.distances == (0, 0, 0, 1, 1, 0, 0, 1)

    def test_a_flip_of_pytorch_is_a_tie_within_its_own_rounding(self) -> None:
        """The file agrees with exact arithmetic; it is PyTorch's float32 that rounded to the other side."""
        exact = Exact(np.array([-1e-6, 1.0]), np.array([1e-9, 1e-9]))
        flipped = flips(np.float32([1e-6, 1.0]), np.array([-1, 1]), Levels.BIPOLAR, exact)
        assert (flipped.count, flipped.ties) == (1, 1)

    def test_what_rounding_cannot_move_has_no_ties(self) -> None:
        """Exactly 0 behind a ReLU that cut it off."""
        exact = Exact(np.array([0.0, 0.0, 1.0]), np.array([0.0, 1e-9, 1e-9]))
        flipped = flips(np.float32([0, 0, 1]), np.array([-1, -1, 1]), Levels.UNIPOLAR, exact)
        assert (flipped.count, flipped.ties) == (2, 1)
