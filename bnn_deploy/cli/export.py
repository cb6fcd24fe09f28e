"""`bnn-deploy export`: a PyTorch model to one ONNX file, checked for parity before it says success."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bnn_deploy.cli import output, parsing
from bnn_deploy.cli.parsing import Exporter, Precision, SignZero
from bnn_deploy.cli.summary import summary


def export(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A zoo name, path/to/file.py:factory or package.module:factory.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Gets model.onnx and report.json.")],
    checkpoint: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Trained weights; a zoo model may ship with some.")
    ] = None,
    input_: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="SHAPE", help="As 1x3x224x224, once an input; a zoo model knows its own."),
    ] = None,
    kwargs: Annotated[str | None, typer.Option(metavar="JSON", help="Keyword arguments of the factory.")] = None,
    sys_path: Annotated[
        list[Path] | None, typer.Option(metavar="DIR", help="A folder to import from; may be repeated.")
    ] = None,
    prepare: Annotated[
        str | None, typer.Option(metavar="MODULE:FUNCTION", help="Called with the loaded model before the export.")
    ] = None,
    precision: Annotated[Precision, typer.Option(help="The type of what is not 1-bit.")] = Precision.FP32,
    dynamic: Annotated[
        str, typer.Option(metavar="AXES", help="Sizes left open: batch, batch,spatial or none.")
    ] = "batch",
    sign_zero: Annotated[SignZero, typer.Option(help="The sign of an exact 0; auto: as the model has it.")] = (
        SignZero.AUTO
    ),
    trust_checkpoint: Annotated[
        bool, typer.Option("--trust-checkpoint", help="Load a file whose loading can run code of its author's.")
    ] = False,
    exporter: Annotated[Exporter, typer.Option(help="Which of PyTorch's exporters.")] = Exporter.DYNAMO,
    seed: Annotated[int, typer.Option(min=0, help="Of untrained weights and of the inputs of the parity check.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> int:
    """Make DIR/model.onnx and DIR/report.json of a PyTorch model."""
    fields = {
        "model": model,
        "out_dir": parsing.output_folder("--out", out),
        "checkpoint": parsing.existing_file("--checkpoint", checkpoint),
        "inputs": [parsing.parse_shape(text) for text in input_ or []],
        "kwargs": parsing.parse_kwargs(kwargs),
        "sys_path": [parsing.existing_folder("--sys-path", folder) for folder in sys_path or []],
        "prepare": parsing.parse_function("--prepare", prepare),
        "precision": str(precision),
        "dynamic": parsing.parse_dynamic(dynamic),
        "sign_zero": str(sign_zero),
        "trust_checkpoint": trust_checkpoint,
        "exporter": str(exporter),
        "seed": seed,
    }
    return run(fields, as_json=json)


def run(fields: dict[str, Any], *, as_json: bool) -> int:
    """Exports as `fields`, those of an `ExportRequest`, say."""
    from bnn_deploy.export.request import ExportRequest
    from bnn_deploy.export.supervise import run_export

    report = run_export(ExportRequest(**fields))
    if as_json:
        output.print_json(report)
        return 0
    for line in summary(report, fields["out_dir"]):
        typer.echo(line)
    return 0
