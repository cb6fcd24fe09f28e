"""What a reduced case says of itself, and the folder that it is written to."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from bnn_deploy import reproduce
from bnn_deploy.parity.reduction.case import FILE, RUNNER, ReducedCase
from bnn_deploy.parity.reduction.delta import Budget
from bnn_deploy.parity.reduction.oracle import Expected, Subject
from bnn_deploy.parity.reduction.trial import DIFFERS, OTHER_SHAPE, RAISES, Part, Trial
from bnn_deploy.runners.onnxruntime import OnnxRuntimeRunner

X = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)


class Wrong(OnnxRuntimeRunner):
    spoil: Callable[[Any], Any] = staticmethod(lambda y: y + np.float32(1))

    def infer(self, feeds: Any) -> Any:
        return {name: self.spoil(array) for name, array in super().infer(feeds).items()}


def part(expected: Any = 2 * X, kind: str = DIFFERS) -> Part:
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, None]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"], name="twice")], "g", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    return Part(Subject(model, model, ()), (0,), {"x": X}, {"y": Expected(expected)}, kind=kind)


def reduced(of: Part, factory: Any = Wrong, runner: str = "onnxruntime") -> ReducedCase:
    return ReducedCase.of(of, runner, Trial(factory, Budget(9)))


def test_it_says_where_what_and_how_much() -> None:
    case = reduced(part())
    assert case.cause == RUNNER and case.runs == 1
    assert case.summary == (
        "twice (Add): 4 of 4 elements of 'y' differ; the file is right, and onnxruntime computes something else"
    )
    assert case.differences["y"]["first"][0] == [[0, 0], "2.0", "3.0"]


def test_what_is_wrong_with_the_file() -> None:
    case = reduced(part(3 * X), OnnxRuntimeRunner)
    assert case.cause == FILE and case.summary.endswith("the file holds something else than the PyTorch network")
    case = replace(case, layers=("a", "b"), ops=("Add", "Mul"))
    assert case.summary.startswith("a (Add) -> b (Mul): ") and "one of them holds something else" in case.summary


def test_another_shape() -> None:
    class Cut(Wrong):
        spoil = staticmethod(lambda y: y[:1])

    case = reduced(part(kind=OTHER_SHAPE), Cut)
    assert "has another shape" in case.summary and case.differences["y"] == {"elements": 4, "differ": 4, "first": []}


def test_what_was_raised() -> None:
    class Raises(Wrong):
        spoil = staticmethod(lambda y: 1 / 0)

    case = reduced(part(kind=RAISES), Raises)
    assert "raises division by zero" in case.summary and case.differences == {}


@pytest.mark.parametrize(
    ("runner", "session"),
    [
        ("onnxruntime", {}),
        ("onnxruntime-unoptimised", {"optimise": False}),
        ("native-cpu", {"library": True}),
        ("onnxruntime-cuda", {"provider": "CUDAExecutionProvider"}),
        ("some-other", {}),
    ],
)
def test_the_folder(runner: str, session: dict[str, Any], tmp_path: Path) -> None:
    case = replace(reduced(part()), runner=runner, expected={"y": Expected(2 * X, 0.5, X > 1)})
    folder = case.write(tmp_path / "deep" / "case")
    found = json.loads((folder / "case.json").read_text())
    stock = {"optimise": True, "library": False, "provider": "CPUExecutionProvider"}
    assert found["session"] == stock | session and found["tolerances"] == {"y": 0.5}
    with np.load(folder / "expected.npz") as expected, np.load(folder / "inputs.npz") as inputs:
        assert set(expected) == {"y", "y.care"} and inputs["x"].tolist() == X.tolist()
    readme = (folder / "README.txt").read_text()
    assert case.summary in readme and ("--library" in readme) == ("library" in session)
    assert ("run case.onnx on that" in readme) == (runner == "some-other")
    assert (folder / "reproduce.py").read_bytes() == Path(reproduce.__file__).read_bytes()
    onnx.checker.check_model(onnx.load(str(folder / "case.onnx")))


def test_an_infinite_difference_is_still_json(tmp_path: Path) -> None:
    class Infinite(Wrong):
        spoil = staticmethod(lambda y: y / np.float32(0))

    with np.errstate(divide="ignore"):
        case = reduced(part(), Infinite)
    found = json.loads((case.write(tmp_path) / "case.json").read_text())
    assert found["differences"]["y"]["first"][0][2] == "inf"
