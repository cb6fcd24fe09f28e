from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest

from bnn_deploy.parity import BinarizationResult, FreeRun, LayerResult, RunnerResult
from bnn_deploy.parity.results import FLIP_BUCKETS, CaseResult, ParityReport, ProbeResult, Spread

LAYERS = (LayerResult("a", 100, 2, 0.5, 0.1, False), LayerResult("b", 50, 1, 0.25, 0.1, False))
BINARIZATIONS = (
    BinarizationResult("a/Binarize", 10, 0, 0.01, 0.1, 3, 3, True),
    BinarizationResult("b/Binarize", 10, 0, None, 0.1, 2, 1, False),
)
PROBES = (ProbeResult("a/Binarize", "zeros", 10, 0, True),)
FREE = FreeRun(0.75, 0.1, 0.5, 9, "a/Binarize")


def result(**changes: Any) -> RunnerResult:
    whole = RunnerResult("onnxruntime", 4, LAYERS, BINARIZATIONS, FREE, ("a: wrong",), PROBES)
    return dataclasses.replace(whole, **changes)


def test_totals() -> None:
    found = result().to_json()
    layers, binarizations, free, probes = (
        found.pop(name) for name in ("layers", "binarizations", "free_run", "probes")
    )
    assert found == {
        "runner": "onnxruntime",
        "passed": False,
        "samples": 4,
        "accumulators": 150,
        "accumulator_mismatches": 3,
        "max_abs_error": 0.75,
        "sign_flips": 5,
        "ties": 4,
        "argmax_agreement": 0.5,
        "failures": ["a: wrong"],
    }
    assert layers == [dataclasses.asdict(layer) for layer in LAYERS]
    assert binarizations == [
        {**dataclasses.asdict(entry), "flip_distances": list(entry.flip_distances)} for entry in BINARIZATIONS
    ]
    assert probes == [dataclasses.asdict(probe) for probe in PROBES]
    assert free == dataclasses.asdict(FREE)


def test_it_passes_where_nothing_failed() -> None:
    assert not result().passed
    assert result(failures=()).passed and result(failures=()).to_json()["passed"]


@pytest.mark.parametrize(("layers", "error"), [(LAYERS, 0.5), ((), 0.0)])
def test_without_a_free_run(layers: tuple[LayerResult, ...], error: float) -> None:
    found = result(free_run=None, layers=layers, binarizations=()).to_json()
    assert (found["max_abs_error"], found["argmax_agreement"], found["free_run"]) == (error, None, None)
    assert (found["sign_flips"], found["ties"]) == (0, 0)


def test_json_knows_no_infinity() -> None:
    infinite = dataclasses.replace(FREE, max_abs_error=math.inf, argmax_agreement=None)
    layer = dataclasses.replace(LAYERS[0], max_abs_error=math.inf)
    found = result(free_run=infinite, layers=(layer,)).to_json()
    assert found["max_abs_error"] is None
    assert found["free_run"]["max_abs_error"] is None and found["layers"][0]["max_abs_error"] is None
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def report(**changes: Any) -> ParityReport:
    case = CaseResult("digits", "some", 4, (result(failures=()), result()), Spread({"one thread": FREE}))
    whole = ParityReport("mine", "m.onnx", "0" * 64, "fp32", (case,), None, {"numpy": "2"})
    return dataclasses.replace(whole, **changes)


def test_a_report_names_the_case_and_the_runner() -> None:
    found = report(file_failures=("conv: the scale",))
    assert found.failures == ("the file: conv: the scale", "digits: onnxruntime: a: wrong")
    assert not found.passed and not found.cases[0].passed
    content = found.to_json()
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert content["failures"] == list(found.failures) and content["flip_buckets"] == list(FLIP_BUCKETS)
    assert content["cases"][0]["spread"] == {"one thread": dataclasses.asdict(FREE)}


def test_a_report_of_nothing_wrong() -> None:
    case = CaseResult("digits", "some", 4, (result(failures=()),))
    assert report(cases=(case,)).passed and report(cases=(case,)).to_json()["cases"][0]["spread"] is None
    assert not report(cases=(case,), file_failures=("x",)).passed
