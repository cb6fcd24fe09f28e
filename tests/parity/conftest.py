from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import onnx
import pytest

from bnn_deploy.parity import RunnerResult, check
from bnn_deploy.parity.results import (
    BinarizationResult,
    CaseResult,
    FreeRun,
    LayerResult,
    ParityReport,
    ProbeResult,
    Spread,
)
from bnn_deploy.runners.base import Recording
from bnn_deploy.runners.onnxruntime import OnnxRuntimeRunner
from bnn_deploy.runners.pytorch import PyTorchRunner

Factory = Callable[[onnx.ModelProto], Any]
Verdict = Callable[..., RunnerResult]


def one_thread(model: onnx.ModelProto) -> OnnxRuntimeRunner:
    return OnnxRuntimeRunner(model, threads=1)


class Unanalysed(PyTorchRunner):
    """A network that cannot be analysed: the stated tolerance is all there is."""

    def record(self, feeds: Mapping[str, Any], **_: Any) -> Recording:
        return self._taped(feeds)[0]


@pytest.fixture
def verdict() -> Verdict:
    """What the harness says of a runner of an exported network, or of a changed copy of the file."""

    def verdict(
        given: Any,
        model: onnx.ModelProto | None = None,
        factory: Factory = one_thread,
        feeds: Mapping[str, Any] | None = None,
        analysed: bool = True,
    ) -> RunnerResult:
        model = model if model is not None else given.proto()
        names = [value.name for value in model.graph.input]
        kind = PyTorchRunner if analysed else Unanalysed
        reference = kind(given.module, names, [value.name for value in model.graph.output])
        results = check(reference, model, {"tested": factory}, given.feeds if feeds is None else feeds)
        assert list(results) == ["pytorch", "tested"]
        assert results["pytorch"].passed, results["pytorch"].failures
        return results["tested"]

    return verdict


@pytest.fixture
def report() -> ParityReport:
    """Two cases on two runners, of which `native-cpu` fails: every kind of figure, and something wrong of each."""
    layers = ("stem.conv", "layer1", "layer1.b")

    def result(runner: str, bug: bool, case: int) -> RunnerResult:
        compared = [LayerResult(name, 1000, 0, 1e-6, 1e-5, True, 0.5, 1e-5, 0.03 * (case + 1)) for name in layers]
        binarized = [
            BinarizationResult(
                f"{name}/Binarize", 500, 0, 1e-7, 1e-6, 2, 2, True, 1.0, 1e-6, 0.2, (1, 0, 0, 1, 0, 0, 0, 0)
            )
            for name in layers[1:]
        ]
        failures: tuple[str, ...] = ()
        probes = (ProbeResult("layer1/Binarize", "negative zeros", 64, 0, True),)
        if bug:
            compared[1] = LayerResult("layer1", 1000, 7, math.inf, 1e-5, False, math.inf, None, math.inf)
            binarized[1] = BinarizationResult(
                "layer1.b/Binarize", 500, 3, None, 1e-6, 5, 3, False, None, None, 40.0, (0, 0, 1, 2, 0, 2, 0, 0)
            )
            probes = (ProbeResult("layer1/Binarize", "negative zeros", 64, 5, False),)
            failures = (
                "layer1: 7 of 1000 accumulators differ",
                "layer1.b/Binarize: 3 packed words break the bit contract",
                "layer1/Binarize: given negative zeros, 5 of 64 values break the bit contract",
                "output 'y': off by 0.5 (tolerance 1e-05), given the reference's own bits",
            )
        free = FreeRun(
            0.5 if bug else 1e-6, 1e-5, 0.75 if bug else 1.0, 9 if bug else 0, "layer1.b/Binarize" if bug else None
        )
        return RunnerResult(runner, 8, tuple(compared), tuple(binarized), free, failures, probes)

    own = RunnerResult("pytorch", 8, (LayerResult("layer1", 1000, 0, 1e-6, 1e-5, True),), (), None)
    spread = Spread({"without mkldnn": FreeRun(0.4, 1e-5, 0.875, 33000, "layer1.b/Binarize")})
    cases = tuple(
        CaseResult(name, told, 8, (own, result("onnxruntime", False, at), result("native-cpu", at == 1, at)), spread)
        for at, (name, told) in enumerate((("digits", "held-out digits"), ("batch 7", "seven random images")))
    )
    accuracy = {
        "dataset": "held-out digits",
        "samples": 1000,
        "classes": [],
        "top1": {"pytorch": 0.974, "onnxruntime": 0.974, "native-cpu": 0.97},
        "top5": {"pytorch": 0.999, "onnxruntime": 0.999, "native-cpu": 0.998},
        "disagreements": 1,
        "disagreeing": [
            {
                "image": "digit 17",
                "label": 4,
                "predicted": {"pytorch": 4, "onnxruntime": 4, "native-cpu": 9},
                "margins": {},
            }
        ],
    }
    file_failures = ("layer1: the scale is not the network's",)
    versions = {"bnn_deploy": "0.1.0", "torch": "2.13.0"}
    return ParityReport("birealnet", "out/model.onnx", "ab" * 32, "fp32", cases, accuracy, versions, file_failures)
