"""A deployed file, ONNX or engine, by what it takes and gives."""

from __future__ import annotations

from pathlib import Path

import onnx

from bnn_deploy.files import is_engine
from bnn_deploy.inspection import load_model
from bnn_deploy.tensorrt.interface import load_interface


def load_deployed(path: str | Path) -> onnx.ModelProto:
    """The ONNX file; of an engine a model without nodes, with its inputs and outputs and the properties of its source.

    Raises:
        InputRefused: There is no such file, or it cannot be read.
    """
    return load_interface(Path(path)) if is_engine(path) else load_model(path)
