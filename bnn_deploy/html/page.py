"""The page as a whole."""

from __future__ import annotations

from importlib.resources import files

from bnn_deploy.html.charts import change_chart, changes, layer_chart
from bnn_deploy.html.graph import draw_graph, legend
from bnn_deploy.html.markup import Markup, element, join
from bnn_deploy.html.numbers import bytes_of, ratio, short
from bnn_deploy.html.tables import float_table, layer_table, op_table, passes_of, tiles
from bnn_deploy.inspection import ExportHistory, Inspection

TWIN = (
    "The float twin is the same network as stock tools export it: its binary layers are float convolutions with ±alpha "
    "weights. A kernel is a node that has work to do for each image; what follows from sizes alone, and what only "
    "renames or reshapes, is none. Activations are all that kernels write for one image."
)


def render_page(found: Inspection, history: ExportHistory | None, *, title: str) -> str:
    """The page, as HTML with its style and drawings in it.

    Args:
        found: What is in the file.
        history: What the export noted down, for the comparison with the float twin and the list of passes.
        title: What the page is about, as the user knows it.
    """
    sections = [
        section("Layers", layer_chart(found.layers), layer_table(found.layers)),
        section("Float tensors that stay", float_table(found.float_weights)),
        section("Passes", passes_of(history)),
        section("Graph", legend(), element("div", draw_graph(found), class_="scroll drawing")),
    ]
    if history is not None:
        sections.insert(0, _before_and_after(found, history))
    header = element("header", element("h1", title), element("p", _subtitle(found)))
    return document(f"{title}: bnn-deploy inspect", header, tiles(_headlines(found, history)), *sections)


def document(title: str, *children: Markup) -> str:
    """A page of its own, with its style in it.

    Args:
        title: What the window is called.
        children: What stands on it, from top to bottom.
    """
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Markup(files(__package__).joinpath("page.css").read_text("utf-8"))),
    )
    body = element("body", element("main", *children))
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def section(title: str, *children: Markup) -> Markup:
    """A part of the page under a heading."""
    return element("section", element("h2", title), *children)


def _subtitle(found: Inspection) -> str:
    shapes = ["x".join(map(str, size.shape)) if size is not None else name for name, size in found.inputs.items()]
    return (
        f"One ONNX file, opset {found.opset}, {found.file_bytes:,} bytes. Work and sizes are for {', '.join(shapes)}."
    )


def _headlines(found: Inspection, history: ExportHistory | None) -> list[tuple[str, str]]:
    binary = sum(layer.binary for layer in found.layers)
    share = f"{found.binary_macs / found.total_macs:.1%}" if found.total_macs else "none"
    graph, before = found.graph, history.before if history is not None else None
    facts = [
        (f"{binary} of {len(found.layers)}", "layers are 1-bit"),
        (share, f"of {short(found.total_macs)} multiply-accumulates are 1-bit"),
        (
            bytes_of(found.binary_weight_bytes),
            f"of 1-bit weights, beside {bytes_of(found.float_weight_bytes)} of floats",
        ),
    ]
    if history is not None:
        facts.append((ratio(history.float_bytes, found.file_bytes), "smaller file than the float twin"))
    kernels = f"kernels an image{f', of {before.kernels}' if before is not None else ''}"
    facts.append((f"{graph.kernels}", kernels))
    if graph.activation_bytes is not None:
        known = before is not None and before.activation_bytes is not None
        was = f", of {bytes_of(before.activation_bytes)}" if before is not None and known else ""
        facts.append((bytes_of(graph.activation_bytes), f"of activations written an image{was}"))
    return facts


def _before_and_after(found: Inspection, history: ExportHistory) -> Markup:
    key = element(
        "p",
        element("span", element("i", class_="swatch float"), "float twin"),
        element("span", element("i", class_="swatch binary"), "this file"),
        class_="legend",
    )
    details = element(
        "details", element("summary", "Ops, one by one"), op_table(history.before, found.graph), open="open"
    )
    chart = join(key, change_chart(changes(found, history)))
    return section("Before and after", element("p", TWIN), chart, details)
