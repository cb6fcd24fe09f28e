"""A `Part` that fails, cut down. The runner here says what fails: a rule on the inputs in place of a bug."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from bnn_deploy.parity.reduction.delta import Budget
from bnn_deploy.parity.reduction.oracle import Expected, Subject
from bnn_deploy.parity.reduction.shrink import shrink
from bnn_deploy.parity.reduction.trial import DIFFERS, OTHER_SHAPE, PASSES, RAISES, Part, Trial, outcome
from bnn_deploy.runners.base import RunnerBase

Rule = Callable[[Any], bool]


class Doubles(RunnerBase):
    """y = 2 x, and off by one where the rule says so."""

    name = "doubles"

    def __init__(self, rule: Rule) -> None:
        self._rule = rule

    def infer(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        return {"y": 2 * feeds["x"] + np.float32(self._rule(feeds["x"]))}


def part_of(x: Any, computable: bool = True) -> Part:
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None] * x.ndim) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "g", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    return Part(Subject(model, model, ()), (0,), {"x": x}, {"y": Expected(2 * x)}, computable, DIFFERS)


def image(*shape: int) -> Any:
    return np.arange(1, np.prod(shape) + 1, dtype=np.float32).reshape(shape)


def smallest(x: Any, rule: Rule, *, computable: bool = True, most_runs: int = 1000) -> tuple[Any, int]:
    trial = Trial(lambda model: Doubles(rule), Budget(most_runs))
    part = shrink(trial, part_of(x, computable), lambda stage: None)
    assert trial.judge(part) == DIFFERS
    np.testing.assert_array_equal(part.expected["y"].values, 2 * part.inputs["x"])
    return part.inputs["x"], trial.budget.spent


def test_one_value_of_one_sample() -> None:
    x = image(5, 3, 8, 6)
    culprit = x[3, 1, 4, 2]
    found, _ = smallest(x, lambda x: culprit in x)
    assert found.shape == (1, 3, 1, 1) and found.ravel().tolist() == [0, culprit, 0]


def test_what_does_not_depend_on_the_values_needs_none() -> None:
    found, _ = smallest(image(4, 3, 8, 6), lambda x: True)
    assert found.shape == (1, 3, 1, 1) and not found.any()


def test_two_samples_where_it_takes_two() -> None:
    found, _ = smallest(image(6, 2), lambda x: len(x) > 1)
    assert found.shape == (2, 2)


def test_a_size_that_it_takes() -> None:
    found, _ = smallest(image(2, 1, 9, 9), lambda x: x.shape[2] >= 5)
    assert found.shape == (1, 1, 5, 1)


def test_what_cannot_be_computed_anew_keeps_its_image() -> None:
    x = image(4, 3, 2, 2)
    found, _ = smallest(x, lambda x: 1.0 in x, computable=False)
    np.testing.assert_array_equal(found, x[:1])


@pytest.mark.parametrize("most_runs", [0, 1, 5])
def test_without_runs_the_part_stays(most_runs: int) -> None:
    found, spent = smallest(image(4, 3, 8, 8), lambda x: 1.0 in x, most_runs=most_runs)
    assert 1.0 in found and spent == most_runs + 1


def test_another_way_to_fail_is_another_failure() -> None:
    """What raises on a smaller input is not the difference that is looked for."""

    def rule(x: Any) -> bool:
        if len(x) < 3:
            raise RuntimeError("too few")
        return True

    found, _ = smallest(image(6, 2), rule)
    assert len(found) == 3


def test_outcomes() -> None:
    expected = {"y": Expected(np.zeros((2, 2), np.float32), 0.1)}
    assert outcome({"y": np.full((2, 2), 0.05)}, expected) == PASSES
    assert outcome({"y": np.full((2, 2), 0.5)}, expected) == DIFFERS
    assert outcome({"y": np.zeros((2, 1))}, expected) == OTHER_SHAPE
    assert outcome(RuntimeError(), expected) == RAISES
