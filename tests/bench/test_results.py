from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnn_deploy.bench import BenchmarkRow, Footprint, Times, latency_row

POSITIVE = st.floats(1e-3, 1e3)


def test_percentiles_interpolate() -> None:
    times = Times.of([5.0, 1.0, 2.0, 4.0, 3.0], [10.0] * 5)
    assert (times.p10_ms, times.p50_ms, times.p90_ms) == (1.4, 3.0, 4.6)


def test_the_ratio_is_taken_round_by_round() -> None:
    """Of three rounds the second and third were slow for both: the ratio of medians would say 20 / 3."""
    own, other = [1.0, 3.0, 30.0], [2.0, 20.0, 60.0]
    assert Times.of(own, other).ratio == 2.0


@settings(deadline=None, max_examples=50)
@given(rounds=st.lists(st.tuples(POSITIVE, POSITIVE), min_size=1, max_size=30), slowdown=POSITIVE)
def test_a_machine_that_is_slower_has_the_same_ratio(rounds: list[tuple[float, float]], slowdown: float) -> None:
    own, other = ([pair[index] for pair in rounds] for index in (0, 1))
    found = Times.of(own, other)
    slower = Times.of([slowdown * time for time in own], [slowdown * time for time in other])
    assert slower.ratio == pytest.approx(found.ratio, rel=1e-12)
    assert slower.p50_ms == pytest.approx(slowdown * found.p50_ms, rel=1e-12)
    assert min(own) <= found.p10_ms <= found.p50_ms <= found.p90_ms <= max(own)
    assert Times.of(other, own).ratio == pytest.approx(float(np.median([one / two for one, two in rounds])), rel=1e-12)


def test_compared_with_itself_it_is_1() -> None:
    assert Times.of([1.0, 7.0], [1.0, 7.0]).ratio == 1.0


def test_times_of_other_rounds_are_no_pairs() -> None:
    with pytest.raises(ValueError, match="2 times beside 1: not of the same rounds"):
        Times.of([1.0, 2.0], [1.0])


def row(footprint: Footprint) -> BenchmarkRow:
    times = {"slow": [4.0, 8.0], "fast": [2.0, 2.0]}
    return latency_row(times, "fast", footprint, model="m.onnx", batch=8, threads=2, file_bytes=100, difference=0.5)


def test_a_row_has_all_of_it() -> None:
    found = row(Footprint(12.5, 3000, 1000))
    assert dataclasses.asdict(found) == {
        "runner": "fast", "model": "m.onnx", "batch": 8, "threads": 2, "rounds": 2,
        "p10_ms": 2.0, "p50_ms": 2.0, "p90_ms": 2.0, "ratio": 3.0, "images_per_second": 4000.0,
        "load_ms": 12.5, "peak_rss_bytes": 3000, "base_rss_bytes": 1000, "file_bytes": 100, "difference": 0.5,
    }  # fmt: skip
    assert found.network_rss_bytes == 2000


@pytest.mark.parametrize(
    ("peak", "base", "network"), [(None, None, None), (5, None, None), (None, 5, None), (5, 9, 0), (9, 5, 4)]
)
def test_memory_that_is_not_known(peak: int | None, base: int | None, network: int | None) -> None:
    assert row(Footprint(1.0, peak, base)).network_rss_bytes == network
