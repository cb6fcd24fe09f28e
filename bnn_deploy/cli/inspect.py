"""`bnn-deploy inspect`: what is in an exported file, layer by layer, and what became of what was exported."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bnn_deploy.cli import output
from bnn_deploy.cli.files import model_file
from bnn_deploy.errors import InputRefused

if TYPE_CHECKING:
    from bnn_deploy.inspection import ExportHistory, GraphTotals, Inspection, LayerRow, PassRow

COLUMNS = ("layer", "kind", "weight", "1-bit", "activations", "scale", "bytes", "MACs", "why not 1-bit")
RIGHT = ("bytes", "MACs")
PASS_COLUMNS = ("pass", "changes", "left alone")


def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An ONNX file, or a folder that export wrote.")],
    passes: Annotated[bool, typer.Option("--passes", help="Also show what each pass did.")] = False,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="PAGE.html", help="Write one self-contained page, with charts and the graph."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, with all of it.")] = False,
) -> int:
    """Show every layer: 1-bit or not, why, what would change it, its bytes and its work."""
    from bnn_deploy.inspection import inspect_file, read_history

    path = model_file(file)
    found, history = inspect_file(path), read_history(path)
    if passes and history is None:
        raise InputRefused(
            str(file), "no report of this file lies beside it", "report.json, as export writes it", "bnn-deploy export"
        )
    if html is not None:
        _write_page(html, found, history, title=history.model if history is not None else path.name)
    if json:
        output.print_json(document(found, history))
        return 0
    output.print_table(COLUMNS, [_row(layer) for layer in found.layers], right=RIGHT)
    for lines in ([*totals(found), *comparison(found, history)], advice(found)):
        typer.echo("".join(f"\n{line}" for line in lines))
    if passes and history is not None:
        typer.echo()
        output.print_table(PASS_COLUMNS, _pass_rows(history.passes), right=("changes",))
    return 0


def document(found: Inspection, history: ExportHistory | None) -> dict[str, Any]:
    """All of it, as JSON."""
    return {
        **found.to_json(),
        "inputs": {name: size and asdict(size) for name, size in found.inputs.items()},
        "nodes": [{**asdict(node), "written_bytes": node.written_bytes} for node in found.nodes],
        "export": asdict(history) if history is not None else None,
    }


def totals(found: Inspection) -> list[str]:
    """What the layers add up to."""
    binary = sum(layer.binary for layer in found.layers)
    share = f"{found.binary_macs / found.total_macs:.1%}" if found.total_macs else "an unknown share"
    largest = ", ".join(f"{weight.name} {weight.bytes:,}" for weight in found.float_weights[:3])
    work = f"{share} of {found.total_macs:,} multiply-accumulates an image"
    weights = f"{found.binary_weight_bytes:,} of 1-bit weights, {found.float_weight_bytes:,} of float weights"
    return [
        f"{binary} of {len(found.layers)} layers are 1-bit, {work}",
        f"{found.file_bytes:,} bytes, {found.precision}: {weights} (largest: {largest})",
        _graph_line(found.graph),
    ]


def comparison(found: Inspection, history: ExportHistory | None) -> list[str]:
    """The float twin, in the terms of `totals`."""
    if history is None:
        return []
    smaller = f"{history.float_bytes / found.file_bytes:.1f}x"
    return [f"as stock tools export it: {history.float_bytes:,} bytes ({smaller}), {_graph_line(history.before)}"]


def advice(found: Inspection) -> list[str]:
    """What to change in training, and for which layers; each piece of advice once."""
    layers: dict[str, list[str]] = {}
    for layer in found.layers:
        if layer.advice:
            layers.setdefault(layer.advice, []).append(layer.name)
    return [f"{', '.join(names)}: {text}" for text, names in layers.items()]


def _graph_line(graph: GraphTotals) -> str:
    written = (
        f"{graph.activation_bytes:,} bytes" if graph.activation_bytes is not None else "an unknown number of bytes"
    )
    return f"{graph.nodes} nodes, {graph.kernels} of them kernels, which write {written} of activations an image"


def _write_page(path: Path, found: Inspection, history: ExportHistory | None, *, title: str) -> None:
    from bnn_deploy.files import write_atomically
    from bnn_deploy.html import render_page

    if path.is_dir():
        raise InputRefused(str(path), "a folder", "the name of a file", f"--html {path / 'inspect.html'}")
    write_atomically(path, render_page(found, history, title=title).encode())


def _pass_rows(passes: tuple[PassRow, ...]) -> list[dict[str, str]]:
    return [
        {
            "pass": record.name,
            "changes": f"{record.changes:,}",
            "left alone": "; ".join(f"{layer}: {reason}" for layer, reason in record.declined),
        }
        for record in passes
    ]


def _row(layer: LayerRow) -> dict[str, str]:
    return {
        "layer": layer.name,
        "kind": layer.kind,
        "weight": "x".join(map(str, layer.shape)),
        "1-bit": "yes" if layer.binary else "weights" if layer.weight_bits == 1 else "no",
        "activations": layer.levels,
        "scale": layer.scale if layer.weight_bits == 1 else "",
        "bytes": f"{layer.weight_bytes:,}",
        "MACs": f"{layer.macs:,}" if layer.macs is not None else "unknown",
        "why not 1-bit": layer.reason or "",
    }
