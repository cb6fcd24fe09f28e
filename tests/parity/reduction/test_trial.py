"""Judging a part of a file: what is rounding, what is a tie inside, and what is neither."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from bnn_deploy.parity.instrument import observed
from bnn_deploy.parity.reduction.delta import Budget
from bnn_deploy.parity.reduction.oracle import Subject
from bnn_deploy.parity.reduction.trial import DIFFERS, PASSES, RAISES, Part, Trial
from bnn_deploy.runners.base import RunnerBase
from bnn_deploy.runners.reference import ReferenceRunner

CHANNELS = 3


@pytest.fixture
def part() -> Part:
    """y = x + 0, packed at 0, and a layer of one output: its accumulator is the number of +1, twice, less 3."""
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("bnn_deploy", 1)]
    layer = {"domain": "bnn_deploy", "channels": CHANNELS}
    nodes = [
        helper.make_node("Add", ["x", "zero"], ["y"], "add"),
        helper.make_node("PackBipolar", ["y", "zero"], ["bits"], "pack", **layer),
        helper.make_node("PackedLinear", ["bits", "w", "one", "zero"], ["z"], "fc", low=-1.0, **layer),
    ]
    constants = {"zero": np.zeros(1, np.float32), "one": np.ones(1, np.float32), "w": np.array([[7]], np.int32)}
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, None]) for name in "xz"]
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], initializer=initializers)
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    subject = Subject(model, model, observed(model).packs)
    x = np.array([[1e-7, 1.0, -1.0], [2.0, 3.0, 4.0]], np.float32)
    return Part(subject, (0, 1, 2), {"x": x}, subject.compute((0, 1, 2), {"x": x}))


class Moves(RunnerBase):
    """Runs a file on other inputs than it is given."""

    name = "moves"

    def __init__(self, model: onnx.ModelProto, move: Callable[[Any], Any]) -> None:
        self._inner, self._move = ReferenceRunner(model), move

    def infer(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        return self._inner.infer({name: self._move(array) for name, array in feeds.items()})


def judged(part: Part, move: Callable[[Any], Any]) -> str:
    return Trial(lambda model: Moves(model, move), Budget(10)).judge(part)


def change(x: Any, row: int, column: int, value: float) -> Any:
    x = x.copy()
    x[row, column] = value
    return x


def test_what_is_right_passes(part: Part) -> None:
    assert judged(part, lambda x: x) == PASSES


def test_a_tie_inside_is_no_failure(part: Part) -> None:
    """The accumulator behind it is off by two, as it has to be."""
    assert judged(part, lambda x: change(x, 0, 0, -1e-7)) == PASSES


def test_a_flip_that_is_no_tie_is_one(part: Part) -> None:
    assert judged(part, lambda x: change(x, 0, 1, -1.0)) == DIFFERS


def test_a_tie_excuses_its_own_sample_alone(part: Part) -> None:
    assert judged(part, lambda x: change(change(x, 0, 0, -1e-7), 1, 2, -4.0)) == DIFFERS


def test_an_error_behind_bits_that_are_right(part: Part) -> None:
    class OffByOne(Moves):
        def infer(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
            found = super().infer(feeds)
            return found | {"z": found["z"] + 1}

    trial = Trial(lambda model: OffByOne(model, lambda x: x), Budget(10))
    assert trial.judge(part) == DIFFERS
    failing = trial.confirmed(part)
    assert failing is not None and failing.kind == DIFFERS and failing.names == ["add", "pack", "fc"]


def test_no_runs_no_failure(part: Part) -> None:
    def refuse(model: onnx.ModelProto) -> Any:
        raise ValueError("no")

    assert Trial(refuse, Budget(5)).judge(part) == RAISES
    assert Trial(refuse, Budget(5)).fails(part, RAISES)
    assert not Trial(refuse, Budget(0)).fails(part, RAISES)
    assert not Trial(refuse, Budget(5)).fails(part, DIFFERS)
