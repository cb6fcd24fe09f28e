"""`bnn-deploy inspect`: what is in an exported file, layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bnn_deploy.cli import output
from bnn_deploy.cli.files import model_file

if TYPE_CHECKING:
    from bnn_deploy.inspection import Inspection, LayerRow

COLUMNS = ("layer", "kind", "weight", "1-bit", "activations", "scale", "bytes", "MACs", "why not 1-bit")
RIGHT = ("bytes", "MACs")


def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An ONNX file, or a folder that export wrote.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Show every layer: 1-bit or not, why, its bytes and its work."""
    from bnn_deploy.inspection import inspect_file

    found = inspect_file(model_file(file))
    if json:
        output.print_json(found.to_json())
        return 0
    output.print_table(COLUMNS, [_row(layer) for layer in found.layers], right=RIGHT)
    for line in totals(found):
        typer.echo(line)
    return 0


def totals(found: Inspection) -> list[str]:
    """What the layers add up to."""
    binary = sum(layer.binary for layer in found.layers)
    bits = sum(layer.weight_bytes for layer in found.layers if layer.weight_bits == 1)
    floats = sum(weight.bytes for weight in found.float_weights)
    share = f"{found.binary_macs / found.total_macs:.1%}" if found.total_macs else "an unknown share"
    largest = ", ".join(f"{weight.name} {weight.bytes:,}" for weight in found.float_weights[:3])
    work = f"{share} of {found.total_macs:,} multiply-accumulates an image"
    return [
        f"{binary} of {len(found.layers)} layers are 1-bit, {work}",
        f"{found.file_bytes:,} bytes: {bits:,} of 1-bit weights, {floats:,} of float weights (largest: {largest})",
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
