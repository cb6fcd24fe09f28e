"""`bnn-deploy parity`: an exported file against the PyTorch model, on any set of runners and inputs."""

from __future__ import annotations

import json as json_format
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from bnn_deploy.cli import output, parsing
from bnn_deploy.cli.files import model_file
from bnn_deploy.cli.options import CheckedRunners
from bnn_deploy.cli.parity_summary import summary
from bnn_deploy.cli.parsing import SignZero
from bnn_deploy.errors import InputRefused

REPORT = "report.json"
WORKER = "bnn_deploy.parity_job"


def parity(
    file: Annotated[
        Path, typer.Argument(metavar="DIR|FILE", help="A folder that export wrote, or an ONNX file of ours.")
    ],
    runner: CheckedRunners = None,
    input_: Annotated[
        list[str] | None,
        typer.Option("--input", "-i", metavar="FILE", help="An .npy or .npz file or an image; NAME=FILE for several."),
    ] = None,
    images: Annotated[Path | None, typer.Option(metavar="DIR", help="A folder of images.")] = None,
    mean: Annotated[str | None, typer.Option(metavar="M[,M,M]", help="For images.")] = None,
    deviation: Annotated[str | None, typer.Option(metavar="D[,D,D]", help="For images.")] = None,
    batch: Annotated[list[int] | None, typer.Option(min=1, help="A batch size; may be repeated.")] = None,
    size: Annotated[list[str] | None, typer.Option(metavar="HxW", help="An image size; may be repeated.")] = None,
    adversarial: Annotated[bool, typer.Option(help="Also try values that are hard to binarise.")] = True,
    samples: Annotated[
        int | None, typer.Option(min=1, help="Of digits or random images, and of the largest batch.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of random inputs.")] = 0,
    labels: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Labelled images: a sub-folder a class, or with labels.csv.")
    ] = None,
    classes: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Their classes in the order of the network's outputs.")
    ] = None,
    golden: Annotated[Path | None, typer.Option(metavar="DIR", help="Write a bundle for `bnn-deploy verify`.")] = None,
    bisect: Annotated[
        bool, typer.Option("--bisect", help="On failure, write the smallest case that still fails.")
    ] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page.")] = None,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a JUnit file.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Gets parity.json; default: beside the file.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="The PyTorch model, in place of the one in the report.")
    ] = None,
    checkpoint: Annotated[Path | None, typer.Option(metavar="FILE", help="Its weights, likewise.")] = None,
    input_shape: Annotated[
        list[str] | None, typer.Option(metavar="SHAPE", help="Its inputs, as 1x3x224x224, once an input.")
    ] = None,
    kwargs: Annotated[str | None, typer.Option(metavar="JSON", help="Keyword arguments of its factory.")] = None,
    sys_path: Annotated[
        list[Path] | None, typer.Option(metavar="DIR", help="A folder to import it from; may be repeated.")
    ] = None,
    prepare: Annotated[str | None, typer.Option(metavar="MODULE:FUNCTION", help="As of export.")] = None,
    sign_zero: Annotated[SignZero | None, typer.Option(help="As of export.")] = None,
    trust_checkpoint: Annotated[bool, typer.Option("--trust-checkpoint", help="As of export.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the whole report as JSON.")] = False,
) -> int:
    """Compare any set of runners with the PyTorch model, layer by layer and end to end."""
    path = model_file(file)
    given = {
        "checkpoint": parsing.existing_file("--checkpoint", checkpoint),
        "inputs": [parsing.parse_shape(text, "--input-shape") for text in input_shape or []] or None,
        "kwargs": parsing.parse_kwargs(kwargs) or None,
        "sys_path": [parsing.existing_folder("--sys-path", folder) for folder in sys_path or []] or None,
        "prepare": parsing.parse_function("--prepare", prepare),
        "sign_zero": None if sign_zero is None else str(sign_zero),
        "trust_checkpoint": trust_checkpoint or None,
    }
    network, digest = _network(path, model, {name: value for name, value in given.items() if value is not None})
    folder = parsing.output_folder("--out", out if out is not None else path.parent)
    request = {
        "file": str(path),
        "network": network,
        "sha256": digest,
        "out": folder,
        "runners": list(dict.fromkeys(runner or [])),
        "inputs": input_ or [],
        "images": None if images is None else parsing.existing_folder("--images", images),
        "mean": parsing.parse_numbers("--mean", mean),
        "deviation": parsing.parse_numbers("--deviation", deviation),
        "batches": batch or [],
        "sizes": [parsing.parse_size(text) for text in size or []],
        "adversarial": adversarial,
        "samples": samples,
        "seed": seed,
        "labels": None if labels is None else parsing.existing_folder("--labels", labels),
        "classes": parsing.existing_file("--classes", classes),
        "golden": None if golden is None else parsing.output_folder("--golden", golden),
        "bisect": str(Path(folder) / "bisected") if bisect else None,
        "html": None if html is None else parsing.output_file("--html", html),
        "junit": None if junit is None else parsing.output_file("--junit", junit),
    }
    return run(request, as_json=json)


def run(request: dict[str, Any], *, as_json: bool) -> int:
    """Checks as `request`, the fields of a `ParityRequest`, says; 0 where everything holds, else 1."""
    from bnn_deploy.export.supervise import run_worker

    with tempfile.TemporaryDirectory(prefix="bnn-deploy-parity-") as work:
        report = run_worker(WORKER, request, Path(work), subject=str(request["network"]["model"]))
    if as_json:
        output.print_json(report)
    else:
        for line in summary(report, request["out"]):
            typer.echo(line)
    return 0 if report["passed"] else 1


def _network(path: Path, model: str | None, given: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
    """How to make the PyTorch model again, and the SHA-256 that the file should have: from the report, or as told.

    Raises:
        InputRefused: Nothing says what the model is.
    """
    report_path = path.with_name(REPORT)
    if model is not None:
        return {"model": model, **given}, None
    if not report_path.is_file():
        found = f"no {REPORT} beside it, which would say what the PyTorch model is"
        raise InputRefused(str(path), found, f"{REPORT} or --model", "--model birealnet, for example")
    try:
        report = json_format.loads(report_path.read_text())
        request, digest = report["request"], report["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        found = f"it does not say how the model was made ({type(error).__name__}: {error})"
        raise InputRefused(str(report_path), found, "a report of this version", "export again, or --model") from error
    return {**request, **given}, digest
