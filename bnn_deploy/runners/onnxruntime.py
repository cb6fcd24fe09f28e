"""ONNX Runtime as it is installed, on the CPU, with nothing of ours added: the function bodies do the work."""

from __future__ import annotations

from pathlib import Path

import onnx

from bnn_deploy.runners.ort_session import OrtSessionRunner


class OnnxRuntimeRunner(OrtSessionRunner):
    """Runs an ONNX model on stock ONNX Runtime.

    Args:
        model: A file, or a model in memory.
        threads: Threads within an operator; None leaves the choice to ONNX Runtime.
        optimise: False runs the graph as written, True lets ONNX Runtime rewrite it, as users do.

    Raises:
        InputRefused: ONNX Runtime does not load the model; its own words follow.
    """

    name = "onnxruntime"

    def __init__(
        self, model: str | Path | onnx.ModelProto, *, threads: int | None = None, optimise: bool = True
    ) -> None:
        super().__init__(model, threads=threads, optimise=optimise)
