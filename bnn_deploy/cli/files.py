"""Finding the model that the user means by a path."""

from __future__ import annotations

from pathlib import Path

from bnn_deploy.errors import InputRefused

MODEL = "model.onnx"


def model_file(path: Path) -> Path:
    """An ONNX file, or the one in a folder that `export` wrote.

    Raises:
        InputRefused: There is none.
    """
    found = path / MODEL if path.is_dir() else path
    if not found.is_file():
        wanted = "an ONNX file, or a folder that `bnn-deploy export` wrote"
        raise InputRefused(str(path), f"no {MODEL} in it" if path.is_dir() else "no such file", wanted)
    return found
