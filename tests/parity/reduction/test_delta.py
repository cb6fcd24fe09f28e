from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnn_deploy.parity.reduction.delta import ddmin, shrink_range


@given(count=st.integers(1, 40), data=st.data())
@settings(deadline=None, max_examples=100)
def test_finds_just_what_a_failure_needs(count: int, data: st.DataObject) -> None:
    needed = data.draw(st.sets(st.integers(0, count - 1), min_size=1, max_size=5))
    asked = []

    def fails(some: list[int]) -> bool:
        assert some and some == sorted(some)
        asked.append(some)
        return needed <= set(some)

    assert ddmin(range(count), fails) == sorted(needed)
    assert len(asked) <= count**2 + 3 * count


@given(count=st.integers(2, 200), data=st.data())
@settings(deadline=None, max_examples=50)
def test_one_culprit_takes_a_binary_search(count: int, data: st.DataObject) -> None:
    culprit, asked = data.draw(st.integers(0, count - 1)), 0

    def fails(some: list[int]) -> bool:
        nonlocal asked
        asked += 1
        return culprit in some

    assert ddmin(range(count), fails) == [culprit]
    assert asked <= 2 * math.ceil(math.log2(count)) + 1


@given(count=st.integers(1, 12), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=100)
def test_nothing_can_be_left_out(count: int, seed: int) -> None:
    """Also where failing is not monotone: any test that the whole fails."""

    def fails(some: list[int]) -> bool:
        return len(some) == count or hash((seed, tuple(some))) % 3 == 0

    kept = ddmin(range(count), fails)
    assert fails(kept)
    assert len(kept) == 1 or not any(fails([item for item in kept if item != left_out]) for left_out in kept)


def test_without_leave_to_try_it_keeps_all() -> None:
    assert ddmin("abcdef", lambda some: False) == list("abcdef")


@pytest.mark.parametrize(
    ("length", "low", "high"), [(1, 0, 1), (2, 1, 2), (9, 3, 5), (10, 0, 10), (7, 6, 7), (16, 0, 1)]
)
def test_range(length: int, low: int, high: int) -> None:
    def fails(first: int, last: int) -> bool:
        assert 0 <= first < last <= length
        return first <= low and high <= last

    assert shrink_range(0, length, fails) == (low, high)
