"""ONNX Runtime on the CPU with our library: a node that we have a kernel for runs on that, not on its function body."""

from __future__ import annotations

from pathlib import Path

import onnx

from bnn_deploy.native import library as native_library
from bnn_deploy.runners.ort_session import OrtSessionRunner


class NativeCpuRunner(OrtSessionRunner):
    """Runs an ONNX model on ONNX Runtime with the 1-bit kernels of the native library.

    Args:
        model: A file, or a model in memory.
        threads: Threads within an operator; None leaves the choice to ONNX Runtime.
        optimise: False runs the graph as written, True lets ONNX Runtime rewrite it, as users do.

    Raises:
        InputRefused: The library is not built, or ONNX Runtime does not load it or the model; its own words follow.
    """

    name = "native-cpu"

    def __init__(
        self, model: str | Path | onnx.ModelProto, *, threads: int | None = None, optimise: bool = True
    ) -> None:
        super().__init__(model, threads=threads, optimise=optimise, library=native_library())
