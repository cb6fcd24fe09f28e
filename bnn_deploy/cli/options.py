"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

from bnn_deploy.runners.catalogue import Use, names

CheckedRunners = Annotated[
    list[str] | None,
    typer.Option(
        "--runner",
        help="What runs it; may be repeated. Default: stock ONNX Runtime, and the native library. "
        f"One of {', '.join(names(Use.RUN))}.",
    ),
]
"""The runners that a check compares."""
