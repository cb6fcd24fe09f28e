"""`bnn-deploy run`: one inference of an exported file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bnn_deploy.cli import output, parsing
from bnn_deploy.cli.files import model_file
from bnn_deploy.errors import InputRefused
from bnn_deploy.runners.catalogue import Task, Use, check_loads, entry, make_runner, names

LARGEST_SCORES = 5
SHOWN_VALUES = 8


def run(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="An ONNX file, a folder that export wrote, or an engine.")
    ],
    input_: Annotated[
        list[str],
        typer.Option(
            "--input", "-i", metavar="FILE", help="An .npy file or an image; NAME=FILE where there are several."
        ),
    ],
    runner: Annotated[
        str | None,
        typer.Option(help=f"What runs it: {', '.join(names(Use.RUN))}. Default: onnxruntime; for an engine, tensorrt."),
    ] = None,
    mean: Annotated[
        str | None, typer.Option(metavar="M[,M,M]", help="For images; exported zoo models know theirs.")
    ] = None,
    deviation: Annotated[str | None, typer.Option(metavar="D[,D,D]", help="For images, likewise.")] = None,
    save: Annotated[Path | None, typer.Option(metavar="FILE", help="Write all outputs to an .npz file.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print all outputs as JSON.")] = False,
) -> int:
    """Run an exported file once and print what comes out."""
    import numpy as np

    from bnn_deploy.deployed import load_deployed
    from bnn_deploy.feeds import Preprocessing, preprocessing_of, read_feeds
    from bnn_deploy.files import is_engine

    path = model_file(file, engine=True)
    chosen = runner or ("tensorrt" if is_engine(path) else "onnxruntime")
    entry(chosen, Use.RUN)
    check_loads(chosen, path)
    model = load_deployed(path)
    preprocessing = preprocessing_of(model)
    if mean is not None or deviation is not None:
        means = parsing.parse_numbers("--mean", mean or "0") or []
        deviations = parsing.parse_numbers("--deviation", deviation or "1") or []
        preprocessing = Preprocessing(tuple(means), tuple(deviations))
    feeds = read_feeds(model, input_, preprocessing)
    with make_runner(chosen, Task(path)) as made:
        outputs = made.infer(feeds)
    if save is not None:
        arrays: dict[str, Any] = {**outputs}
        try:
            np.savez(save, **arrays)
        except OSError as error:
            found = f"cannot be written: {error.strerror}"
            raise InputRefused(f"--save {save}", found, "a file in a folder that is there") from error
    if json:
        output.print_json({"runner": chosen, "outputs": {name: array.tolist() for name, array in outputs.items()}})
    else:
        for name, array in outputs.items():
            _show(name, array)
    return 0


def _show(name: str, array: Any) -> None:
    """Class scores as the largest few of each sample, anything else as its first values."""
    typer.echo(f"{name}: {'x'.join(map(str, array.shape))} {array.dtype}")
    if array.ndim != 2:
        typer.echo("  " + " ".join(f"{value:.6g}" for value in array.flat[:SHOWN_VALUES]))
        return
    rows = []
    for sample, scores in enumerate(array):
        order = (-scores).argsort()[:LARGEST_SCORES]
        rows += [{"sample": str(sample), "class": str(index), "score": f"{scores[index]:.4f}"} for index in order]
    output.print_table(("sample", "class", "score"), rows, right=("sample", "class", "score"))
