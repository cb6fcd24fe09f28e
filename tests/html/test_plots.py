from __future__ import annotations

import math
import re

import pytest

from bnn_deploy.html.plots import MARKERS, Series, histogram, key, log_plot, reach_chart


def middles(svg: str) -> dict[str, float]:
    """What is said of a point -> its x."""
    found = re.findall(r'<path d="M([\d.]+) [^"]*" class="series-\d"><title>([^<]*)</title>', svg)
    return {told: float(x) for x, told in found}


def limit(svg: str) -> float:
    (x,) = re.findall(r'<line x1="([\d.]+)"[^>]*class="limit"', svg)
    return float(x)


def test_points_stand_where_their_values_are() -> None:
    values = [0.0, 1e-9, 1e-3, 0.5, 1.0, 5.0, 1e9, math.inf, math.nan]
    labels = [f"row {index}" for index in range(len(values))]
    svg = log_plot("h", labels, [Series("a", values)], decades=(-4, 1), limit=1.0)
    x = [middles(svg)[f"{label}, a: {value:.3g}"] for label, value in zip(labels, values, strict=True)]
    assert x[0] == x[1] < x[2] < x[3] < x[4] < x[5] < x[6] == x[7] == x[8]
    assert x[4] == pytest.approx(limit(svg), abs=0.1)
    assert x[3] < limit(svg) < x[5]


def test_a_series_without_a_value_has_no_point() -> None:
    svg = log_plot("h", ["a", "b"], [Series("s", [None, 0.1]), Series("t", [0.2, 0.3])], decades=(-2, 1), limit=1.0)
    assert middles(svg).keys() == {"b, s: 0.1", "a, t: 0.2", "b, t: 0.3"}


def test_what_is_wrong_stands_out() -> None:
    svg = log_plot("h", ["good", "bad"], [], decades=(-1, 1), limit=1.0, wrong={"bad"})
    assert re.findall(r'class="label wrong"><title>(\w+)<', svg) == ["bad"]


def test_bars_are_as_high_as_the_logarithm() -> None:
    svg = histogram("h", ["a", "b", "c", "d"], [1, 0, 1000, 10], bad=2)
    bars = re.findall(r'height="([\d.]+)"[^>]*class="bar (\w+)"', svg)
    heights = [float(height) for height, _ in bars]
    assert [kind for _, kind in bars] == ["good", "bad", "bad"]
    assert heights[0] < heights[2] < heights[1]
    assert heights[0] / heights[1] == pytest.approx(math.log(2) / math.log(1001), rel=1e-4)
    assert "1,000" in svg


def test_nothing_to_count() -> None:
    assert "rect" not in histogram("h", ["a"], [0], bad=0)
    assert "svg" in histogram("h", [], [], bad=0)


def test_how_far() -> None:
    svg = reach_chart("h", [("half", 0.5, "there"), ("all", 1.0, "to the end"), ("none", 0.0, "at once")])
    widths = [float(width) for width in re.findall(r'width="([\d.]+)"[^>]*class="bar binary"', svg)]
    assert widths[0] == pytest.approx(widths[1] / 2) and widths[2] == 1
    assert "to the end" in svg


def test_more_series_than_markers_share_them() -> None:
    names = [str(number) for number in range(len(MARKERS) + 1)]
    assert len(re.findall('class="series-0"', key(names))) == 2
