"""Where the nodes and edges of a drawing of the graph go: layers from top to bottom, long edges in lanes beside them.

A node's layer is the length of the longest path that leads to it, so every edge goes down. Nodes of one layer stand
side by side, ordered as what they read. An edge to the next layer is a curve; a longer one (a shortcut) runs down a
lane to the right of all that it passes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 264.0, 36.0  # of a node
GAP_X, GAP_Y = 28.0, 30.0  # between nodes
LANE = 13.0  # between lanes
PORT = 16.0  # between the ends of edges at one side of a node
MARGIN = 14.0
CORNER = 6.0


@dataclass(frozen=True)
class Edge:
    """From one node to another, by index; `tensor` is what it carries."""

    source: int
    target: int
    tensor: str


@dataclass(frozen=True)
class Layout:
    """A drawing.

    Attributes:
        centres: (x, y) of each node.
        paths: An SVG path for each edge.
        width, height: Of the whole, in pixels.
    """

    centres: list[tuple[float, float]]
    paths: list[str]
    width: float
    height: float


def lay_out(count: int, edges: Sequence[Edge]) -> Layout:
    """Places `count` nodes, numbered in an order of execution, and their edges."""
    layers = _layers(count, edges)
    columns = _columns(layers, edges)
    lanes = _lanes(layers, edges)
    widest = {layer: (max(x for x, at in zip(columns, layers, strict=True) if at == layer)) for layer in set(layers)}
    lane_x = {
        index: max(widest[layer] for layer in range(layers[edges[index].source], layers[edges[index].target] + 1))
        + WIDTH / 2
        + LANE * (lane + 1)
        for index, lane in lanes.items()
    }
    left = min(columns) - WIDTH / 2 - MARGIN
    right = max([*(x + WIDTH / 2 for x in columns), *lane_x.values()]) + MARGIN
    centres = [
        (x - left, MARGIN + HEIGHT / 2 + layer * (HEIGHT + GAP_Y)) for x, layer in zip(columns, layers, strict=True)
    ]
    lane_x = {index: x - left for index, x in lane_x.items()}
    height = 2 * MARGIN + (max(layers) + 1) * (HEIGHT + GAP_Y) - GAP_Y
    return Layout(centres, _paths(centres, edges, lanes, lane_x), right - left, height)


def _layers(count: int, edges: Sequence[Edge]) -> list[int]:
    layers = [0] * count
    for edge in sorted(edges, key=lambda edge: edge.source):  # what a node reads is settled before its own turn
        layers[edge.target] = max(layers[edge.target], layers[edge.source] + 1)
    fed = {edge.target for edge in edges}
    for node in range(count):  # what reads nothing, such as a constant, stands just above its first reader
        below = [layers[edge.target] for edge in edges if edge.source == node]
        if node not in fed and below:
            layers[node] = min(below) - 1
    return layers


def _columns(layers: Sequence[int], edges: Sequence[Edge]) -> list[float]:
    """The x of each node; a layer is centred at 0."""
    columns = [0.0] * len(layers)
    for layer in range(max(layers) + 1):
        members = [node for node, at in enumerate(layers) if at == layer]

        def wish(node: int) -> float:
            above = [columns[edge.source] for edge in edges if edge.target == node]
            return sum(above) / len(above) if above else 0.0

        for place, node in enumerate(sorted(members, key=wish)):
            columns[node] = (place - (len(members) - 1) / 2) * (WIDTH + GAP_X)
    return columns


def _lanes(layers: Sequence[int], edges: Sequence[Edge]) -> dict[int, int]:
    """Edge -> lane for edges that pass a layer; two that run side by side have different ones, short ones inside."""
    lanes: dict[int, int] = {}
    spans = {index: (layers[edge.source], layers[edge.target]) for index, edge in enumerate(edges)}
    for index in sorted(spans, key=lambda index: spans[index][1] - spans[index][0]):
        top, bottom = spans[index]
        if bottom - top > 1:
            taken = {lane for other, lane in lanes.items() if spans[other][0] <= bottom and top <= spans[other][1]}
            lanes[index] = next(lane for lane in range(len(edges)) if lane not in taken)
    return lanes


def _paths(
    centres: Sequence[tuple[float, float]],
    edges: Sequence[Edge],
    lanes: Mapping[int, int],
    lane_x: Mapping[int, float],
) -> list[str]:
    starts = _ports(centres, edges, lane_x, at_source=True)
    ends = _ports(centres, edges, lane_x, at_source=False)
    paths = []
    for index, edge in enumerate(edges):
        x0, y0 = starts[index], centres[edge.source][1] + HEIGHT / 2
        x1, y1 = ends[index], centres[edge.target][1] - HEIGHT / 2
        if index in lane_x:
            depth = 7.5 + 5.0 * (lanes[index] % 3)
            paths.append(_lane_path((x0, y0), (x1, y1), lane_x[index], depth))
        else:
            middle = (y0 + y1) / 2
            paths.append(f"M{x0:.1f} {y0:.1f}C{x0:.1f} {middle:.1f} {x1:.1f} {middle:.1f} {x1:.1f} {y1:.1f}")
    return paths


def _ports(
    centres: Sequence[tuple[float, float]], edges: Sequence[Edge], lane_x: Mapping[int, float], *, at_source: bool
) -> list[float]:
    """The x at which each edge leaves its source (or enters its target), in the order of where the other ends are."""
    ports = [0.0] * len(edges)
    here = [edge.source if at_source else edge.target for edge in edges]
    other = [centres[edge.target if at_source else edge.source][0] for edge in edges]
    for node, (x, _) in enumerate(centres):
        mine = [index for index, owner in enumerate(here) if owner == node]
        mine.sort(key=lambda index: (lane_x.get(index, other[index]), edges[index].tensor))
        step = min(PORT, (WIDTH - 2 * PORT) / max(len(mine), 1))
        for place, index in enumerate(mine):
            ports[index] = x + (place - (len(mine) - 1) / 2) * step
    return ports


def _lane_path(start: tuple[float, float], end: tuple[float, float], lane: float, depth: float) -> str:
    """Down a little, to the right, down the lane, to the left, down; with round corners."""
    (x0, y0), (x1, y1) = start, end
    top, bottom, r = y0 + depth, y1 - depth, CORNER
    return (
        f"M{x0:.1f} {y0:.1f}V{top - r:.1f}Q{x0:.1f} {top:.1f} {x0 + r:.1f} {top:.1f}"
        f"H{lane - r:.1f}Q{lane:.1f} {top:.1f} {lane:.1f} {top + r:.1f}"
        f"V{bottom - r:.1f}Q{lane:.1f} {bottom:.1f} {lane - r:.1f} {bottom:.1f}"
        f"H{x1 + r:.1f}Q{x1:.1f} {bottom:.1f} {x1:.1f} {bottom + r:.1f}V{y1:.1f}"
    )
