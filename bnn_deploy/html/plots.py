"""Plots as inline SVG: points on a logarithmic scale, a histogram, and how far something came."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from bnn_deploy.html.charts import BAR, LABEL, ROW, WIDTH, bar, label, number, svg
from bnn_deploy.html.markup import Markup, element, join
from bnn_deploy.html.numbers import clip

MARKERS = (  # a shape beside a colour, for those who see no difference between two of them; (x, y) is the middle
    "M{0} {1}m-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0z",
    "M{0} {1}m-4 -4h8v8h-8z",
    "M{0} {1}m0 -5.5l5.5 5.5l-5.5 5.5l-5.5 -5.5z",
    "M{0} {1}m0 -5l5 9h-10z",
    "M{0} {1}m0 5l5 -9h-10z",
    "M{0} {1}m-5 -1.5h10v3h-10z",
)
APART = 7.0  # pixels between the points of two series in one row
TOP = 34.0  # above the first row: a heading and the ticks
BARS_HEIGHT, BAR_WIDTH = 110.0, 62.0
NUMBER_WIDTH = 220.0


@dataclass(frozen=True)
class Series:
    """Values of one name; None where there is none."""

    name: str
    values: Sequence[float | None]


def key(names: Sequence[str]) -> Markup:
    """Which marker stands for which series."""
    drawn = [
        element("span", element("svg", _marker(index, 7, 7), viewBox="0 0 14 14"), name)
        for index, name in enumerate(names)
    ]
    return element("p", join(*drawn), class_="legend")


def log_plot(
    heading: str,
    labels: Sequence[str],
    series: Sequence[Series],
    *,
    decades: tuple[int, int],
    limit: float,
    wrong: Collection[str] = (),
) -> Markup:
    """A row a label, in it a point a series, on a logarithmic scale.

    Args:
        heading: What the values are.
        labels: Of the rows.
        series: As many values as labels each.
        decades: The powers of ten at both ends. What is less stands at the left, as 0 does; what is more, or no number,
            at the right.
        limit: A line is drawn there.
        wrong: The labels that stand out.
    """
    height = max(ROW, APART * len(series) + 6)
    bottom = TOP + height * len(labels)
    parts = [element("text", heading, x=LABEL, y=13, class_="heading")]
    for power in range(decades[0], decades[1] + 1):
        x = _along(10.0**power, decades)
        beyond = {decades[0]: " or less", decades[1]: " or more"}.get(power, "")
        tick = f"{10.0**power:g}{beyond}"
        parts += [_line(x, bottom, "grid"), element("text", tick, x=x, y=TOP - 5, class_="tick")]
    parts.append(_line(_along(limit, decades), bottom, "limit"))
    for row, name in enumerate(labels):
        middle = TOP + height * (row + 0.5)
        parts.append(label(name, middle - BAR / 2, wrong=name in wrong))
        for index, one in enumerate(series):
            value = one.values[row]
            if value is not None:
                y = middle + (index - (len(series) - 1) / 2) * APART
                told = f"{name}, {one.name}: {value:.3g}"
                parts.append(_marker(index, _along(value, decades), y, told))
    return svg(parts, bottom + 8, heading)


def histogram(heading: str, buckets: Sequence[str], counts: Sequence[int], *, bad: int) -> Markup:
    """A bar a bucket, as high as the logarithm of its count; the buckets from `bad` on stand out."""
    most = math.log1p(max(counts, default=0)) or 1.0
    base = TOP + BARS_HEIGHT
    parts = [element("text", heading, x=LABEL, y=13, class_="heading")]
    step = (WIDTH - LABEL) / max(len(buckets), 1)
    for place, (name, count) in enumerate(zip(buckets, counts, strict=True)):
        x, height = LABEL + place * step + (step - BAR_WIDTH) / 2, BARS_HEIGHT * math.log1p(count) / most
        kind = "bad" if place >= bad else "good"
        middle = x + BAR_WIDTH / 2
        if count:
            drawn = element("rect", x=x, y=base - height, width=BAR_WIDTH, height=height, rx=2, class_=f"bar {kind}")
            parts += [drawn, element("text", f"{count:,}", x=middle, y=base - height - 4, class_="tick")]
        parts.append(element("text", name, x=middle, y=base + 15, class_="tick"))
    parts.append(element("line", x1=LABEL, x2=WIDTH, y1=base, y2=base, class_="grid"))
    return svg(parts, base + 24, heading)


def reach_chart(heading: str, rows: Sequence[tuple[str, float, str]]) -> Markup:
    """A row a name: a bar over the share (0 to 1) of the way that it came, and what there is to say of its end."""
    parts = [element("text", heading, x=LABEL, y=13, class_="heading")]
    length = WIDTH - LABEL - NUMBER_WIDTH
    for place, (name, share, told) in enumerate(rows, start=1):
        y = place * ROW + 4
        end = LABEL + length * share
        text = element("title", told)
        parts += [label(name, y), bar(LABEL, y, length, "outline"), bar(LABEL, y, length * share, "binary")]
        parts.append(element("g", text, number(max(end, LABEL + length), y, clip(told, 34))))
    return svg(parts, (len(rows) + 1) * ROW + 8, heading)


def _along(value: float, decades: tuple[int, int]) -> float:
    """The x of a value."""
    low, high = decades
    power = high if not math.isfinite(value) else math.log10(value) if value > 0 else low
    share = (min(max(power, low), high) - low) / (high - low)
    return LABEL + 16 + share * (WIDTH - LABEL - 56)


def _line(x: float, bottom: float, kind: str) -> Markup:
    return element("line", x1=x, x2=x, y1=TOP, y2=bottom, class_=kind)


def _marker(index: int, x: float, y: float, told: str = "") -> Markup:
    shape = MARKERS[index % len(MARKERS)].format(f"{x:.1f}", f"{y:.1f}")
    children = [element("title", told)] if told else []
    return element("path", *children, d=shape, class_=f"series-{index % len(MARKERS)}")
