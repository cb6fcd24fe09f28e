"""A drawing in which every edge goes down, no two boxes touch and no two lines share a lane."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnn_deploy.html.layout import HEIGHT, WIDTH, Edge, Layout, lay_out


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, list[Edge]]:
    """Acyclic, numbered in an order of execution; parallel edges and loose nodes too."""
    count = draw(st.integers(1, 12))
    pairs = [(source, target) for target in range(count) for source in range(target)]
    chosen = draw(st.lists(st.sampled_from(pairs), max_size=25)) if pairs else []
    return count, [Edge(source, target, f"t{index}") for index, (source, target) in enumerate(chosen)]


def ends(path: str) -> tuple[tuple[float, float], tuple[float, float]]:
    """Where a path begins and ends."""
    numbers = [float(text) for text in re.findall(r"-?\d+\.\d", path)]
    x_end = numbers[-3] if "V" in path else numbers[-2]
    return (numbers[0], numbers[1]), (x_end, numbers[-1])


@settings(max_examples=60)
@given(graphs())
def test_boxes_and_lines(graph: tuple[int, list[Edge]]) -> None:
    count, edges = graph
    layout = lay_out(count, edges)
    assert len(layout.centres) == count and len(layout.paths) == len(edges)
    for x, y in layout.centres:
        assert WIDTH / 2 <= x <= layout.width - WIDTH / 2 and HEIGHT / 2 <= y <= layout.height - HEIGHT / 2
    for node, (x, y) in enumerate(layout.centres):
        for other_x, other_y in layout.centres[:node]:
            assert abs(x - other_x) > WIDTH or abs(y - other_y) > HEIGHT
    for edge, path in zip(edges, layout.paths, strict=True):
        (x0, y0), (x1, y1) = ends(path)
        source, target = layout.centres[edge.source], layout.centres[edge.target]
        assert y0 < y1
        assert abs(x0 - source[0]) <= WIDTH / 2 and y0 == pytest.approx(source[1] + HEIGHT / 2, abs=0.1)
        assert abs(x1 - target[0]) <= WIDTH / 2 and y1 == pytest.approx(target[1] - HEIGHT / 2, abs=0.1)


def lane(layout: Layout, index: int) -> float:
    """The x of the lane that an edge runs down."""
    found = re.search(r"H[-\d.]+Q([-\d.]+) ", layout.paths[index])
    assert found is not None, "it has no lane"
    return float(found.group(1))


def test_a_chain_is_a_column() -> None:
    layout = lay_out(4, [Edge(0, 1, "a"), Edge(1, 2, "b"), Edge(2, 3, "c")])
    assert len({x for x, _ in layout.centres}) == 1
    ys = [y for _, y in layout.centres]
    assert ys == sorted(ys)
    assert not any("H" in path for path in layout.paths)


def test_a_shortcut_runs_beside_what_it_passes() -> None:
    layout = lay_out(3, [Edge(0, 1, "a"), Edge(1, 2, "b"), Edge(0, 2, "shortcut")])
    assert lane(layout, 2) > layout.centres[1][0] + WIDTH / 2


def test_two_that_run_side_by_side_have_lanes_of_their_own() -> None:
    chain = [Edge(node, node + 1, f"c{node}") for node in range(6)]
    layout = lay_out(7, [*chain, Edge(0, 5, "long"), Edge(1, 3, "short"), Edge(4, 6, "other")])
    long, short, other = (lane(layout, index) for index in (6, 7, 8))
    assert short < long and other != long


def test_two_tensors_between_the_same_nodes_are_two_lines() -> None:
    layout = lay_out(2, [Edge(0, 1, "y"), Edge(0, 1, "bits")])
    assert layout.paths[0] != layout.paths[1]


def test_a_constant_stands_just_above_who_reads_it() -> None:
    layout = lay_out(4, [Edge(0, 1, "a"), Edge(1, 3, "b"), Edge(2, 3, "constant")])
    assert layout.centres[2][1] == layout.centres[1][1]
