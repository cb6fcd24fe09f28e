from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bnn_deploy.errors import InputRefused
from bnn_deploy.runners.base import RecordingRunner, Runner, RunnerBase, check_feeds
from bnn_deploy.runners.onnxruntime import OnnxRuntimeRunner
from bnn_deploy.runners.pytorch import PyTorchRunner
from bnn_deploy.runners.reference import ReferenceRunner

WANTED = {"image": ("batch", 3, None, 5), "vector": (2,)}


def feeds(image: tuple[int, ...] = (1, 3, 7, 5), vector: tuple[int, ...] = (2,)) -> dict[str, Any]:
    return {"image": np.zeros(image), "vector": np.zeros(vector)}


@pytest.mark.parametrize("image", [(1, 3, 7, 5), (9, 3, 1, 5), (0, 3, 0, 5)])
def test_names_and_none_allow_any_size(image: tuple[int, ...]) -> None:
    check_feeds("mine", feeds(image), WANTED)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"mine: inputs \[\]; wanted: inputs \['image', 'vector'\]; fix: pass each input once"),
        ({"image": np.zeros(1)}, r"mine: inputs \['image'\]"),
        (feeds() | {"more": np.zeros(1)}, r"mine: inputs \['image', 'more', 'vector'\]"),
        (feeds((1, 4, 7, 5)), r"mine: input 'image': shape 1x4x7x5; wanted: shape batchx3xanyx5"),
        (feeds((3, 7, 5)), r"input 'image': shape 3x7x5"),
        (feeds((1, 3, 7, 6)), r"input 'image': shape 1x3x7x6"),
        (feeds(vector=(3,)), r"input 'vector': shape 3; wanted: shape 2"),
    ],
)
def test_what_does_not_fit_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputRefused, match=message):
        check_feeds("mine", given, WANTED)


def test_a_runner_closes_and_passes_errors_on() -> None:
    with pytest.raises(ZeroDivisionError), RunnerBase() as runner:
        assert isinstance(runner, RunnerBase)
        raise ZeroDivisionError


def test_all_runners_keep_the_protocol(deployed: Callable[..., Any]) -> None:
    given = deployed("Residual")
    pytorch = PyTorchRunner(given.module, ["x"], ["output"])
    runners: list[Runner] = [pytorch, OnnxRuntimeRunner(given.path), ReferenceRunner(given.path)]
    assert isinstance(pytorch, RecordingRunner)
    assert [runner.name for runner in runners] == ["pytorch", "onnxruntime", "reference"]
    outputs = []
    for runner in runners:
        assert isinstance(runner, Runner)
        with runner as entered:
            outputs.append(entered.infer(given.feeds)["output"])
        with pytest.raises(InputRefused, match=rf"{runner.name}: inputs \['y'\]; wanted: inputs \['x'\]"):
            runner.infer({"y": given.feeds["x"]})
    for found in outputs[1:]:
        assert found.shape == outputs[0].shape and found.dtype == np.float32
        # Float stem and head, summed in other orders: relative to the largest output.
        np.testing.assert_allclose(found, outputs[0], rtol=0, atol=1e-5 * float(np.abs(outputs[0]).max()))
