"""Bar charts as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bnn_deploy.html.markup import Markup, element
from bnn_deploy.html.numbers import bytes_of, clip, short
from bnn_deploy.inspection import ExportHistory, Inspection, LayerRow

ROW, BAR = 20.0, 12.0
LABEL, NUMBER, SPAN = 230.0, 72.0, 380.0  # widths: of the names, of a number beside a bar, of a column of bars
WIDTH = LABEL + 2 * SPAN


def layer_chart(layers: Sequence[LayerRow]) -> Markup:
    """Work and weights of each layer: two columns of bars. Behind the weights stands what they would be as float32."""
    most_macs = max((layer.macs or 0 for layer in layers), default=0) or 1
    most_bytes = max((layer.float_bytes for layer in layers), default=0) or 1
    rows = [
        element("text", "multiply-accumulates", x=LABEL, y=13, class_="heading"),
        element("text", "bytes of weights; the outline is float32", x=LABEL + SPAN, y=13, class_="heading"),
    ]
    for place, layer in enumerate(layers, start=1):
        y, kind = place * ROW + 4, _kind(layer)
        length, full = SPAN - NUMBER, layer.float_bytes / most_bytes
        macs, held = (layer.macs or 0) / most_macs, layer.weight_bytes / most_bytes
        rows += [
            label(layer.name, y),
            bar(LABEL, y, length * macs, kind),
            number(LABEL + length * macs, y, short(layer.macs)),
            bar(LABEL + SPAN, y, length * full, "outline"),
            bar(LABEL + SPAN, y, length * held, kind),
            number(LABEL + SPAN + length * max(full, held), y, bytes_of(layer.weight_bytes)),
        ]
    return svg(rows, (len(layers) + 1) * ROW + 8, "Work and weights of each layer")


@dataclass(frozen=True)
class Change:
    """A quantity before and after; None where it is not known."""

    label: str
    before: int | None
    after: int | None
    in_bytes: bool = False


def changes(found: Inspection, history: ExportHistory) -> list[Change]:
    """The float twin beside the file."""
    before, after = history.before, found.graph
    graph = [
        Change("nodes", before.nodes, after.nodes),
        Change("kernels", before.kernels, after.kernels),
        Change("activations written", before.activation_bytes, after.activation_bytes, in_bytes=True),
    ]
    return [*graph, Change("file", history.float_bytes, found.file_bytes, in_bytes=True)]


def change_chart(quantities: Sequence[Change]) -> Markup:
    """Two bars for each quantity, of what it was and of what it is, on a scale of its own."""
    rows, y = [], 6.0
    for quantity in quantities:
        known = [value for value in (quantity.before, quantity.after) if value is not None]
        rows.append(label(quantity.label, y + BAR / 2))
        for value, kind in ((quantity.before, "float"), (quantity.after, "binary")):
            length = (2 * SPAN - NUMBER) * (value or 0) / (max(known, default=0) or 1)
            shown = bytes_of(value) if quantity.in_bytes else short(value)
            rows += [bar(LABEL, y, length, kind), number(LABEL + length, y, shown)]
            y += BAR + 3
        y += 14
    return svg(rows, y, "The float twin and the file")


def _kind(layer: LayerRow) -> str:
    return "binary" if layer.binary else "binary_weight" if layer.weight_bits == 1 else "float_layer"


def bar(x: float, y: float, length: float, kind: str) -> Markup:
    """A bar that starts at x; one of length 0 can still be seen."""
    return element("rect", x=x, y=y, width=max(length, 1), height=BAR, rx=2, class_=f"bar {kind}")


def label(text: str, y: float, *, wrong: bool = False) -> Markup:
    """The name of a row, left of its bars; one that is wrong stands out."""
    kind = "label wrong" if wrong else "label"
    return element("text", element("title", text), clip(text, 34), x=LABEL - 10, y=y + BAR - 2, class_=kind)


def number(x: float, y: float, text: str) -> Markup:
    """A number behind a bar that ends at x."""
    return element("text", text, x=x + 6, y=y + BAR - 2, class_="number")


def svg(rows: Sequence[Markup], height: float, description: str) -> Markup:
    """A drawing as wide as the page."""
    box = f"0 0 {WIDTH:.0f} {height:.0f}"
    return element("svg", *rows, class_="chart", viewBox=box, role="img", aria_label=description)
