"""Finding the model that the user means by a path."""

from __future__ import annotations

from pathlib import Path

from bnn_deploy.errors import InputRefused
from bnn_deploy.files import is_engine

MODEL = "model.onnx"


def model_file(path: Path, *, engine: bool = False) -> Path:
    """An ONNX file, or the one in a folder that `export` wrote.

    Args:
        path: What the user named.
        engine: Whether the command takes an engine as well.

    Raises:
        InputRefused: There is none, or it is an engine.
    """
    found = path / MODEL if path.is_dir() else path
    if not found.is_file():
        wanted = "an ONNX file, or a folder that `bnn-deploy export` wrote"
        raise InputRefused(str(path), f"no {MODEL} in it" if path.is_dir() else "no such file", wanted)
    if is_engine(found) and not engine:
        raise InputRefused(str(path), "an engine", "the ONNX file that it was built of")
    return found
