from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from bnn_deploy.parity.harness import Harness
from bnn_deploy.parity.inputs import InputCase
from bnn_deploy.parity.reduction.bisect import followed
from bnn_deploy.parity.reduction.reducer import Reducer
from bnn_deploy.runners.onnxruntime import OnnxRuntimeRunner
from bnn_deploy.runners.pytorch import PyTorchRunner

Deployed = Callable[..., Any]
FILES = {"case.onnx", "inputs.npz", "expected.npz", "case.json", "README.txt", "reproduce.py"}


class Good(OnnxRuntimeRunner):
    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__(model, threads=1)


class Bad(Good):
    """Takes a value on the threshold for less than it."""

    def __init__(self, model: onnx.ModelProto) -> None:
        broken = onnx.ModelProto()
        broken.CopyFrom(model)
        for function in broken.functions:
            if function.name == "PackBipolar":
                for node in function.node:
                    node.op_type = {"GreaterOrEqual": "Greater"}.get(node.op_type, node.op_type)
        super().__init__(broken)


@pytest.fixture
def told() -> list[str]:
    return []


def test_each_runner_that_fails_gets_a_folder(deployed: Deployed, tmp_path: Path, told: list[str]) -> None:
    given = deployed("InPlace")
    model = given.proto()
    factories = {"good": Good, "bad": Bad}
    reducer = Reducer(model, factories, tmp_path, told.append)
    reference = PyTorchRunner(given.module, ["x"], ["output"])
    with Harness(reference, model, factories) as harness:
        case = InputCase("zeros", "with zeros", given.feeds)
        recording = harness.record(case)
        result = harness.check(case, recording)
        assert [one.passed for one in result.runners] == [True, True, False]
        reducer.case(replace(case, finite=False), result, recording)
        assert reducer.written == {}
        reducer.case(case, result, recording)
        reducer.case(case, result, recording)
    assert reducer.written == {"bad": tmp_path / "bad"}
    assert {path.name for path in (tmp_path / "bad").iterdir()} == FILES
    assert [path.name for path in tmp_path.iterdir()] == ["bad"]
    assert sum("the case is in" in line for line in told) == 1


def test_the_reference_is_computed_once_for_all_runners(
    deployed: Deployed, tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = deployed("InPlace")
    model, case, calls = given.proto(), InputCase("zeros", "with zeros", given.feeds), []
    counted = "bnn_deploy.parity.reduction.reducer.followed"
    monkeypatch.setattr(counted, lambda *arguments: calls.append(arguments) or followed(*arguments))
    factories = {"bad": Bad, "as bad": Bad}
    with Harness(PyTorchRunner(given.module, ["x"], ["output"]), model, factories) as harness:
        recording = harness.record(case)
        result = harness.check(case, recording)
    reducer = Reducer(model, factories, tmp_path, told.append)
    reducer.case(case, result, recording)
    assert len(calls) == 1
    assert reducer.written.keys() == factories.keys()
    for name in ("case.onnx", "inputs.npz", "expected.npz"):
        assert len({(folder / name).read_bytes() for folder in reducer.written.values()}) == 1


def test_a_probe_is_reduced_too(deployed: Deployed, tmp_path: Path, told: list[str]) -> None:
    given = deployed("InPlace")
    model = given.proto()
    reducer = Reducer(model, {"good": Good, "bad": Bad}, tmp_path, told.append)
    with Harness(PyTorchRunner(given.module, ["x"], ["output"]), model, {"good": Good, "bad": Bad}) as harness:
        for name in ("good", "bad"):
            reducer.probes(harness.probe(name))
    assert reducer.written.keys() == {"bad"}


def test_what_has_no_smaller_case_is_told(deployed: Deployed, tmp_path: Path, told: list[str]) -> None:
    """A failure that is not there any more, and the file of another network."""
    given = deployed("InPlace")
    model, case = given.proto(), InputCase("x", "x", given.feeds)
    with Harness(PyTorchRunner(given.module, ["x"], ["output"]), model, {"good": Good}) as harness:
        recording = harness.record(case)
        result = harness.check(case, recording)
    failed = replace(result, runners=tuple(replace(one, failures=("something",)) for one in result.runners))
    Reducer(model, {"good": Good}, tmp_path, told.append).case(case, failed, recording)
    assert told[-1] == "good: no part of the file fails alone"
    Reducer(deployed("Rectified").proto(), {"good": Good}, tmp_path, told.append).case(case, failed, recording)
    assert "cannot be followed beside the PyTorch network" in told[-1]
    assert list(tmp_path.iterdir()) == []
