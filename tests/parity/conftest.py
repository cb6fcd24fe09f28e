from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import onnx
import pytest

from bnn_deploy.parity import RunnerResult, check
from bnn_deploy.runners.onnxruntime import OnnxRuntimeRunner
from bnn_deploy.runners.pytorch import PyTorchRunner

Factory = Callable[[onnx.ModelProto], Any]
Verdict = Callable[..., RunnerResult]


def one_thread(model: onnx.ModelProto) -> OnnxRuntimeRunner:
    return OnnxRuntimeRunner(model, threads=1)


@pytest.fixture
def verdict() -> Verdict:
    """What the harness says of a runner of an exported network, or of a changed copy of the file."""

    def verdict(
        given: Any,
        model: onnx.ModelProto | None = None,
        factory: Factory = one_thread,
        feeds: Mapping[str, Any] | None = None,
    ) -> RunnerResult:
        model = model if model is not None else given.proto()
        names = [value.name for value in model.graph.input]
        reference = PyTorchRunner(given.module, names, [value.name for value in model.graph.output])
        results = check(reference, model, {"tested": factory}, given.feeds if feeds is None else feeds)
        assert list(results) == ["pytorch", "tested"]
        assert results["pytorch"].passed, results["pytorch"].failures
        return results["tested"]

    return verdict
