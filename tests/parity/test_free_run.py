"""The first divergence of a free run: a tie within rounding, or a bug."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from bnn_deploy.parity import RunnerResult
from bnn_deploy.parity.free_run import compare_free_run
from bnn_deploy.runners.onnxruntime import OnnxRuntimeRunner
from bnn_deploy.runners.pytorch import PyTorchRunner

Verdict = Callable[..., RunnerResult]
Deployed = Callable[..., Any]


class Nudged(OnnxRuntimeRunner):
    """A backend whose float part is off by a little: it adds `step` to every input."""

    step = 0.0

    def infer(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        moved = {name: x + np.float32(self.step) if name == "x" else x for name, x in feeds.items()}
        return super().infer(moved)


def nudged(step: float) -> type[Nudged]:
    return type("Nudged", (Nudged,), {"step": step})


@pytest.fixture
def near_threshold(deployed: Deployed) -> tuple[Any, dict[str, Any]]:
    """A network whose first layer binarises 1.5 x, and an input with one value at -1e-7 and none else near 0."""
    given = deployed("InPlace")
    x = given.feeds["x"].copy()[:3]
    x[np.abs(x) < 0.1] = 0.5
    x[1, 2, 3, 4] = -1e-7
    return given, {"x": x}


def test_a_flip_within_rounding_is_a_tie(near_threshold: tuple[Any, dict[str, Any]], verdict: Verdict) -> None:
    given, feeds = near_threshold
    still = verdict(given, feeds=feeds)
    assert still.passed and still.to_json()["sign_flips"] == 0
    result = verdict(given, factory=nudged(2e-7), feeds=feeds, analysed=False)
    assert result.passed, result.failures
    (flipped,) = [entry for entry in result.binarizations if entry.sign_flips]
    assert (flipped.layer, flipped.sign_flips, flipped.ties) == ("first/Binarize", 1, 1)
    assert result.free_run is not None
    assert result.free_run.first_divergence == "first/Binarize"
    # The one bit changes the outputs for good, and that is no failure.
    assert result.free_run.max_abs_error > result.free_run.tolerance


def test_a_flip_beyond_rounding_is_a_bug(near_threshold: tuple[Any, dict[str, Any]], verdict: Verdict) -> None:
    given, feeds = near_threshold
    feeds["x"][0, 0, 0, 0] = -0.01
    result = verdict(given, factory=nudged(0.02), feeds=feeds, analysed=False)
    (flipped,) = [entry for entry in result.binarizations if entry.layer == "first/Binarize"]
    assert (flipped.sign_flips, flipped.ties) == (2, 1)
    assert "first/Binarize: 1 signs differ that no rounding explains" in result.failures
    assert "first/Binarize: end to end, 1 of 2 signs differ that no rounding explains" in result.failures


def test_the_proven_bound_is_sharper(near_threshold: tuple[Any, dict[str, Any]], verdict: Verdict) -> None:
    """A product off by 3e-7 at a value of 1e-7: no float32 multiplication is, whatever the rest of the tensor holds."""
    given, feeds = near_threshold
    result = verdict(given, factory=nudged(2e-7), feeds=feeds)
    assert "first/Binarize: 1 signs differ that no rounding explains" in result.failures
    assert "first/Binarize: end to end, 1 of 1 signs differ that no rounding explains" in result.failures


def test_a_tie_does_not_hide_a_bug_behind_it(
    near_threshold: tuple[Any, dict[str, Any]], deployed: Deployed, verdict: Verdict
) -> None:
    """After a tie the outputs of the free run differ and prove nothing; those of the forced one still do."""
    given, feeds = near_threshold
    model = given.proto()
    (last,) = [node for node in model.graph.node if "output" in node.output]
    last.output[0] = "almost"
    model.graph.initializer.append(numpy_helper.from_array(np.float32(1.01), "a hundredth more"))
    model.graph.node.append(helper.make_node("Mul", ["almost", "a hundredth more"], ["output"]))
    result = verdict(given, model, factory=nudged(2e-7), feeds=feeds, analysed=False)
    assert not result.passed
    (failure,) = result.failures
    assert re.match(r"output 'output': off by .*, given the reference's own bits", failure)


def test_agreement_of_the_largest_output(deployed: Deployed) -> None:
    """The share of samples whose class is the same."""
    given = deployed("Residual")

    class Shuffled(OnnxRuntimeRunner):
        def infer(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
            found = super().infer(feeds)
            scores = found["output"].copy()
            best = scores[:2].argmax(axis=1)
            scores[[0, 1], (best + 1) % scores.shape[1]] = scores.max() + 1
            return {**found, "output": scores}

    recording = PyTorchRunner(given.module, ["x"], ["output"]).record(given.feeds)
    same, failures = compare_free_run(given.proto(), OnnxRuntimeRunner, given.feeds, recording)
    assert (same.argmax_agreement, same.sign_flips, same.first_divergence, failures) == (1.0, 0, None, [])
    assert same.max_abs_error <= same.tolerance
    other, failures = compare_free_run(given.proto(), Shuffled, given.feeds, recording)
    assert other.argmax_agreement == pytest.approx(4 / 6)
    assert len(failures) == 1


def test_a_feature_map_has_no_class(deployed: Deployed, verdict: Verdict) -> None:
    free_run = verdict(deployed("Spatial")).free_run
    assert free_run is not None and free_run.argmax_agreement is None


def test_the_worst_of_several_outputs(deployed: Deployed) -> None:
    given = deployed("TwoInputs")

    class Off(OnnxRuntimeRunner):
        def infer(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
            found = super().infer(feeds)
            return {**found, "output_1": found["output_1"] + 1000, "output_2": found["output_2"] + 10}

    outputs = ["output_0", "output_1", "output_2"]
    recording = PyTorchRunner(given.module, list(given.feeds), outputs).record(given.feeds)
    run, failures = compare_free_run(given.proto(), Off, given.feeds, recording)
    assert run.max_abs_error == pytest.approx(1000, rel=1e-3)
    assert [failure.split(":")[0] for failure in failures] == ["output 'output_1'", "output 'output_2'"]
