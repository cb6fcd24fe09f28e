"""Stock ONNX Runtime on the float twin: the same network with ±alpha weights as plain float convolutions."""

from __future__ import annotations

from pathlib import Path

import onnx

from bnn_deploy.runners.ort_session import OrtSessionRunner


class OnnxRuntimeFloatRunner(OrtSessionRunner):
    """Runs a float twin, which is what a user of stock tools has.

    Args:
        model: The twin, a file or a model in memory: `passes.float_twin` makes it of a deployed file,
            `export_onnx(float_path=...)` of a PyTorch module.
        threads: Threads within an operator; None leaves the choice to ONNX Runtime.

    Raises:
        InputRefused: ONNX Runtime does not load the model; its own words follow.
    """

    name = "onnxruntime-float"

    def __init__(self, model: str | Path | onnx.ModelProto, *, threads: int | None = None) -> None:
        super().__init__(model, threads=threads)
