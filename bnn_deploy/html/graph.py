"""The drawing of the graph: a box a node, a line a tensor, both with their sizes when the mouse rests on them."""

from __future__ import annotations

from collections.abc import Mapping

from bnn_deploy.html.layout import HEIGHT, WIDTH, Edge, lay_out
from bnn_deploy.html.markup import Markup, element, join
from bnn_deploy.html.numbers import bytes_of, clip, short, size_of
from bnn_deploy.inspection import Inspection, LayerRow, NodeRow, TensorSize

KINDS = {
    "binary": "1-bit layer",
    "bits": "makes or pools bits",
    "binary_weight": "1-bit weights, float activations",
    "float_layer": "float layer",
    "float": "other float work",
    "shape": "no kernel",
}
NAME_LENGTH, OP_LENGTH = 38, 27
THICKEST = 6.0  # pixels, of the line of the largest tensor


def draw_graph(found: Inspection) -> Markup:
    """An `svg` element of the size that it needs."""
    sizes = dict(found.inputs)
    for node in found.nodes:
        sizes.update(node.outputs)
    boxes, edges = _boxes_and_edges(found)
    layout = lay_out(len(boxes), edges)
    largest = max((size.bytes for size in sizes.values() if size is not None), default=1)
    lines = [
        _line(path, edge.tensor, sizes.get(edge.tensor), largest)
        for path, edge in zip(layout.paths, edges, strict=True)
    ]
    layers = {layer.name: layer for layer in found.layers}
    drawn = [
        _end_box(box, sizes.get(box), *centre) if isinstance(box, str) else _node_box(box, layers, *centre)
        for box, centre in zip(boxes, layout.centres, strict=True)
    ]
    return element(
        "svg",
        *lines,
        *drawn,
        class_="graph",
        width=layout.width,
        height=layout.height,
        viewBox=f"0 0 {layout.width:.0f} {layout.height:.0f}",
        role="img",
        aria_label="The graph of the file",
    )


def _boxes_and_edges(found: Inspection) -> tuple[list[str | NodeRow], list[Edge]]:
    """Inputs by name, nodes, outputs by name; and the tensors between them. What nobody reads has no line."""
    boxes: list[str | NodeRow] = [*found.inputs, *found.nodes, *found.outputs]
    made = {name: index for index, name in enumerate(found.inputs)}
    edges: list[Edge] = []
    for index, node in enumerate(found.nodes, start=len(found.inputs)):
        edges += [Edge(made[name], index, name) for name in dict.fromkeys(node.inputs) if name in made]
        made.update(dict.fromkeys(node.outputs, index))
    ends = enumerate(found.outputs, start=len(found.inputs) + len(found.nodes))
    return boxes, edges + [Edge(made[name], index, name) for index, name in ends if name in made]


def _line(path: str, tensor: str, size: TensorSize | None, largest: int) -> Markup:
    thickness = 1.0 if size is None else 1.0 + (THICKEST - 1.0) * (size.bytes / largest) ** 0.5
    kind = "edge bits" if size is not None and size.bits else "edge"
    return element(
        "path", element("title", f"{tensor}: {size_of(size)}"), d=path, class_=kind, stroke_width=round(thickness, 2)
    )


def _node_box(node: NodeRow, layers: Mapping[str, LayerRow], x: float, y: float) -> Markup:
    written = bytes_of(node.written_bytes) if node.kernel else ""
    top, left, right = y - HEIGHT / 2, x - WIDTH / 2 + 10, x + WIDTH / 2 - 10
    return element(
        "g",
        element("title", _description(node, layers.get(node.name))),
        element("rect", x=x - WIDTH / 2, y=top, width=WIDTH, height=HEIGHT, rx=6),
        element("text", clip(node.op_type, OP_LENGTH), x=left, y=top + 15, class_="op"),
        element("text", written, x=right, y=top + 15, class_="size"),
        element("text", clip(node.name, NAME_LENGTH), x=left, y=top + 29, class_="name"),
        class_=f"node {node.kind}",
    )


def _end_box(tensor: str, size: TensorSize | None, x: float, y: float) -> Markup:
    """An input or an output of the network."""
    shape = "x".join(map(str, size.shape)) if size is not None else ""
    return element(
        "g",
        element("title", f"{tensor}: {size_of(size)}"),
        element("rect", x=x - WIDTH / 4, y=y - HEIGHT / 2, width=WIDTH / 2, height=HEIGHT, rx=HEIGHT / 2),
        element("text", clip(f"{tensor} {shape}", 20), x=x, y=y + 4, class_="end-name"),
        class_="node end",
    )


def _description(node: NodeRow, layer: LayerRow | None) -> str:
    lines = [f"{node.op_type} {node.name}", KINDS[node.kind]]
    lines += [f"writes {name}: {size_of(size)}" for name, size in node.outputs.items()]
    if node.constant_bytes:
        lines.append(f"reads {bytes_of(node.constant_bytes)} of constants")
    if layer is not None:
        lines.append(f"weight {'x'.join(map(str, layer.shape))}, {short(layer.macs)} multiply-accumulates")
    return "\n".join(lines)


def legend() -> Markup:
    """What the colours and lines stand for."""
    kinds = [element("span", element("i", class_=f"swatch {kind}"), text) for kind, text in KINDS.items()]
    lines = [
        element("span", element("i", class_="swatch line"), "floats"),
        element("span", element("i", class_="swatch line bits"), "packed bits"),
        element("span", "the thicker the line, the more bytes"),
    ]
    return element("p", join(*kinds, *lines), class_="legend")
