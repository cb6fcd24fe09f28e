"""`bnn-deploy models`: the zoo, one line a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from bnn_deploy.cli import output

COLUMNS = ("name", "input", "parameters", "1-bit", "trained weights", "source")


def models(
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """List the models that have a name."""
    from bnn_deploy.models import catalogue
    from bnn_deploy.models.summary import describe

    descriptions = [describe(name) for name in catalogue()]
    if json:
        output.print_json(descriptions)
    else:
        output.print_table(COLUMNS, [row(description) for description in descriptions], right=("parameters", "1-bit"))
    return 0


def row(description: Mapping[str, Any]) -> dict[str, str]:
    """One description, of `bnn_deploy.models.summary.describe`, as the table shows it."""
    return {
        "name": description["name"],
        "input": "x".join(map(str, description["input_shape"])),
        "parameters": f"{description['parameters']:,}",
        "1-bit": f"{description['one_bit_share']:.1%}",
        "trained weights": "shipped" if description["weights"] else "",
        "source": description["source"],
    }
