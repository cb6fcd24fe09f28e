"""The CUDA provider. No GPU is needed: what ONNX Runtime says of its providers is put into its mouth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import pytest

from bnn_deploy.errors import InputRefused
from bnn_deploy.runners.onnxruntime_cuda import OPTIONS, PROVIDER, OnnxRuntimeCudaRunner

REAL = onnxruntime.InferenceSession


def session(used: list[str], asked: list[Any]) -> Any:
    """A session on the CPU that says it is on `used`."""

    class Session(REAL):  # type: ignore[misc, valid-type]
        def __init__(self, source: Any, options: Any, providers: Any) -> None:
            asked.append(providers)
            super().__init__(source, options, providers=["CPUExecutionProvider"])

        def get_providers(self) -> list[str]:
            return used

    return Session


def test_a_build_without_the_provider(monkeypatch: pytest.MonkeyPatch, deployed: Callable[..., Any]) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(InputRefused, match=r"runner onnxruntime-cuda: the ONNX Runtime .* is not built with CUDAExec"):
        OnnxRuntimeCudaRunner(deployed("Residual").proto())


def test_a_provider_that_does_not_start(monkeypatch: pytest.MonkeyPatch, deployed: Callable[..., Any]) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [PROVIDER, "CPUExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", session(["CPUExecutionProvider"], []))
    with pytest.raises(InputRefused, match="does not start, and ONNX Runtime took CPUExecutionProvider"):
        OnnxRuntimeCudaRunner(deployed("Residual").proto())


def test_a_provider_that_starts(monkeypatch: pytest.MonkeyPatch, deployed: Callable[..., Any]) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [PROVIDER, "CPUExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", session([PROVIDER, "CPUExecutionProvider"], asked))
    given = deployed("Residual")
    with OnnxRuntimeCudaRunner(given.path) as runner:
        assert np.isfinite(runner.infer(given.feeds)["output"]).all()
    assert asked == [[(PROVIDER, OPTIONS)]]
