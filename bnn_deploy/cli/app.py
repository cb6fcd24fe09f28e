"""Puts the commands together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from bnn_deploy import __version__
from bnn_deploy.cli import bench, doctor, engine, export, inspect, later, models, parity, run, verify

# The order of `bnn-deploy --help`, which is the order of use.
COMMANDS: dict[str, Callable[..., int]] = {
    "models": models.models,
    "export": export.export,
    "run": run.run,
    "parity": parity.parity,
    "verify": verify.verify,
    "bench": bench.bench,
    "engine": engine.engine,
    "inspect": inspect.inspect,
    "doctor": doctor.doctor,
}


def exit_with(status: int, **_options: object) -> None:
    """Turns what a command returned into the exit status of the process."""
    raise typer.Exit(status)


def show_version(asked: bool) -> None:
    """Answers `--version`."""
    if asked:
        typer.echo(f"bnn-deploy {__version__}")
        raise typer.Exit()


app = typer.Typer(
    no_args_is_help=True,
    result_callback=exit_with,
    add_completion=False,
    rich_markup_mode="rich",
    # A bug of ours shows Python's own traceback; a user's error shows one line, see `main.py`.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def bnn_deploy(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Deploys binary neural networks: one ONNX file with 1-bit weights, proven equal to the PyTorch model."""


for name, command in COMMANDS.items():
    app.command(name)(command)
later.register(app)
