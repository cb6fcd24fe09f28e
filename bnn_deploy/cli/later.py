"""The commands that the interface names and this version does not have: each says so and exits with status 2."""

from __future__ import annotations

from collections.abc import Callable

import typer

from bnn_deploy.errors import NotYetAvailable

# name -> (what it will do, what to do until then)
LATER_COMMANDS = {
    "convert": ("Make a 1-bit file of anyone's ONNX file.", "export the PyTorch model with `bnn-deploy export`"),
}

# Whatever stands after such a command, the answer is the same.
_ANY_ARGUMENTS = {"allow_extra_args": True, "ignore_unknown_options": True}


def register(app: typer.Typer) -> None:
    """Adds the commands to `app`."""
    for name, (purpose, instead) in LATER_COMMANDS.items():
        help_line = f"{purpose} [dim](a later version)[/dim]"
        app.command(name, context_settings=_ANY_ARGUMENTS, help=help_line)(_refusal(name, instead))


def _refusal(name: str, instead: str) -> Callable[[typer.Context], int]:
    def refuse(context: typer.Context) -> int:
        raise NotYetAvailable(f"bnn-deploy {name}", instead)

    return refuse
