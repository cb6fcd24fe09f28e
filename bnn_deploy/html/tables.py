"""Tables of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bnn_deploy.html.markup import Markup, element, join
from bnn_deploy.html.numbers import bytes_of, short
from bnn_deploy.inspection import ExportHistory, FloatWeight, GraphTotals, LayerRow, PassRow

LARGEST_FLOATS = 12


def layer_table(layers: Sequence[LayerRow]) -> Markup:
    """Every layer; for one that is not 1-bit, why and what would change it."""
    headings = ("layer", "weight", "activations", "scale", "MACs", "bytes", "as float32", "why, and what to change")
    first: dict[str, str] = {}  # advice -> the layer that it stands beside in full
    for layer in layers:
        first.setdefault(layer.advice or "", layer.name)
    return table(headings, [_layer(layer, first) for layer in layers], right=(4, 5, 6), class_="layers")


def pass_table(passes: Sequence[PassRow]) -> Markup:
    """What each pass did, in order; one that changed nothing and declined nothing is dimmed."""
    rows = []
    for number, record in enumerate(passes, start=1):
        declined = [element("div", element("b", layer), f": {reason}") for layer, reason in record.declined]
        idle = not record.changes and not declined
        rows.append(row((f"{number}", record.name, f"{record.changes:,}", join(*declined)), (0, 2), idle=idle))
    return table(("", "pass", "changes", "left alone, and why"), rows, right=(0, 2))


def op_table(before: GraphTotals, after: GraphTotals) -> Markup:
    """How often each op stands in the graph, before and after."""
    names = list(dict.fromkeys([*after.ops, *before.ops]))
    names.sort(key=lambda name: -max(before.ops.get(name, 0), after.ops.get(name, 0)))
    rows = [row((name, f"{before.ops.get(name, 0)}", f"{after.ops.get(name, 0)}"), (1, 2)) for name in names]
    return table(("op", "float twin", "this file"), rows, right=(1, 2), class_="narrow")


def float_table(weights: Sequence[FloatWeight]) -> Markup:
    """The largest float tensors that stay in the file."""
    rows = [
        row((weight.name, "x".join(map(str, weight.shape)), bytes_of(weight.bytes), ", ".join(weight.used_by)), (2,))
        for weight in weights[:LARGEST_FLOATS]
    ]
    rest = weights[LARGEST_FLOATS:]
    if rest:
        size = bytes_of(sum(weight.bytes for weight in rest))
        rows.append(row((f"{len(rest)} smaller ones", "", size, ""), (2,)))
    return table(("tensor", "shape", "bytes", "read by"), rows, right=(2,))


def tiles(facts: Sequence[tuple[str, str]]) -> Markup:
    """Headline numbers: (number, what it is)."""
    return element(
        "dl", *(element("div", element("dd", number), element("dt", text)) for number, text in facts), class_="tiles"
    )


def passes_of(history: ExportHistory | None) -> Markup:
    """The pass list, or where to get one."""
    if history is None:
        return element("p", "No report lies beside the file. ", element("code", "bnn-deploy export"), " writes one.")
    return pass_table(history.passes)


def _layer(layer: LayerRow, first: Mapping[str, str]) -> Markup:
    verdict = "1-bit" if layer.binary else "1-bit weights" if layer.weight_bits == 1 else "float"
    kind = "binary" if layer.binary else "binary_weight" if layer.weight_bits == 1 else "float_layer"
    why = [element("div", layer.reason)] if layer.reason else []
    if layer.advice:
        told = first[layer.advice]
        why.append(element("div", layer.advice if told == layer.name else f"As for {told}.", class_="advice"))
    cells = (
        join(element("code", layer.name), " ", element("span", verdict, class_=f"badge {kind}")),
        "x".join(map(str, layer.shape)),
        layer.levels,
        layer.scale if layer.weight_bits == 1 else "",
        short(layer.macs),
        bytes_of(layer.weight_bytes),
        bytes_of(layer.float_bytes),
        join(*why),
    )
    return row(cells, (4, 5, 6))


def table(headings: Sequence[str], rows: Sequence[Markup], *, right: Sequence[int] = (), class_: str = "") -> Markup:
    """A table of `row`s that scrolls by itself where it is too wide; the columns `right` hold numbers."""
    head = element("tr", *(element("th", text, class_=_align(at, right)) for at, text in enumerate(headings)))
    whole = element("table", element("thead", head), element("tbody", *rows), class_=class_ or None)
    return element("div", whole, class_="scroll")


def row(cells: Sequence[str], right: Sequence[int], *, idle: bool = False) -> Markup:
    """A row of cells, text or markup; `idle` dims it."""
    shown = (element("td", cell, class_=_align(at, right)) for at, cell in enumerate(cells))
    return element("tr", *shown, class_="idle" if idle else None)


def _align(at: int, right: Sequence[int]) -> str | None:
    return "right" if at in right else None
