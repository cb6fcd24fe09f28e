"""ONNX Runtime on an NVIDIA GPU, with nothing of ours added: its CUDA provider runs the function bodies."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime

from bnn_deploy.errors import InputRefused
from bnn_deploy.runners.ort_session import OrtSessionRunner

PROVIDER = "CUDAExecutionProvider"
# Float32 is float32: by default the provider rounds factors of products to 11 bits.
OPTIONS = {"use_tf32": "0"}


class OnnxRuntimeCudaRunner(OrtSessionRunner):
    """Runs an ONNX model on ONNX Runtime's CUDA provider; what that has no kernel for runs on the CPU.

    Inputs and outputs are in the CPU's memory, so that every run copies them.

    Args:
        model: A file, or a model in memory.

    Raises:
        InputRefused: This ONNX Runtime is not built with the provider, the provider finds no GPU or not the libraries
            that it needs, or ONNX Runtime does not load the model; its own words follow.
    """

    name = "onnxruntime-cuda"

    def __init__(self, model: str | Path | onnx.ModelProto) -> None:
        if PROVIDER not in onnxruntime.get_available_providers():
            raise InputRefused(
                f"runner {self.name}",
                f"the ONNX Runtime {onnxruntime.__version__} that is installed is not built with {PROVIDER}",
                "onnxruntime-gpu, and an NVIDIA GPU",
                "pip uninstall onnxruntime, then pip install onnxruntime-gpu",
            )
        super().__init__(model, providers=[(PROVIDER, OPTIONS)])
        used = self._session.get_providers()
        if PROVIDER not in used:  # ONNX Runtime says so in its log, and goes on with another
            raise InputRefused(
                f"runner {self.name}",
                f"{PROVIDER} does not start, and ONNX Runtime took {', '.join(used)}",
                "an NVIDIA GPU, its driver, and the CUDA and cuDNN that this onnxruntime-gpu is built for",
                "bnn-deploy doctor",
            )
