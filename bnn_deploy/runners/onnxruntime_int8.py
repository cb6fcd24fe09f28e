"""Stock ONNX Runtime on the float twin quantised to 8 bits: what a user of stock tools can do about speed."""

from __future__ import annotations

from pathlib import Path

import onnx

from bnn_deploy.runners.ort_session import OrtSessionRunner


class OnnxRuntimeInt8Runner(OrtSessionRunner):
    """Runs a quantised model.

    Args:
        model: A file or a model in memory with QuantizeLinear and DequantizeLinear nodes: `quantisation.quantise` makes
            it.
        threads: Threads within an operator; None leaves the choice to ONNX Runtime.

    Raises:
        InputRefused: ONNX Runtime does not load the model; its own words follow.
    """

    name = "onnxruntime-int8"

    def __init__(self, model: str | Path | onnx.ModelProto, *, threads: int | None = None) -> None:
        super().__init__(model, threads=threads)
