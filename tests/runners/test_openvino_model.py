"""OpenVINO as a runner, float32 and 8 bits. Runs where OpenVINO is installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from bnn_deploy.errors import InputRefused
from bnn_deploy.passes import float_twin
from bnn_deploy.quantisation import quantise
from bnn_deploy.runners.base import Runner
from bnn_deploy.runners.onnxruntime import OnnxRuntimeRunner

pytest.importorskip("openvino")

from bnn_deploy.runners.openvino import OpenVinoRunner
from bnn_deploy.runners.openvino_int8 import OpenVinoInt8Runner

NETWORK = "TwoInputs"  # it binarises its inputs: nothing rounds ahead of a threshold
TOLERANCE = 1e-5  # float32 sums in another order, relative to the largest output
INT8_TOLERANCE = 0.02  # likewise, a few layers on 8 bits


@pytest.fixture
def twin(deployed: Callable[..., Any], tmp_path: Path) -> Path:
    path = tmp_path / "float.onnx"
    onnx.save(float_twin(deployed(NETWORK).proto()), path)
    return path


def test_it_computes_the_float_network(twin: Path, deployed: Callable[..., Any]) -> None:
    given = deployed(NETWORK)
    expected = OnnxRuntimeRunner(given.path).infer(given.feeds)
    for shapes in (None, {name: x.shape for name, x in given.feeds.items()}):
        runner = OpenVinoRunner(twin, threads=1, shapes=shapes)
        found = runner.infer(given.feeds)
        assert found.keys() == expected.keys()
        for name, y in expected.items():
            np.testing.assert_allclose(found[name], y, rtol=0, atol=TOLERANCE * float(np.abs(y).max()))
    assert isinstance(runner, Runner) and runner.name == "openvino"


def test_two_results_are_two_arrays(twin: Path, deployed: Callable[..., Any]) -> None:
    given = deployed(NETWORK)
    with OpenVinoRunner(twin) as runner:
        first = {name: y.copy() for name, y in runner.infer(given.feeds).items()}
        again = runner.infer(given.feeds)
        other = runner.infer({name: -x for name, x in given.feeds.items()})
    for name, y in first.items():
        np.testing.assert_array_equal(again[name], y)
        assert not np.array_equal(other[name], y)


def test_it_takes_the_quantised_file(twin: Path, tmp_path: Path, deployed: Callable[..., Any]) -> None:
    given = deployed(NETWORK)
    quantise(twin, tmp_path / "int8.onnx", [given.feeds])
    runner = OpenVinoInt8Runner(tmp_path / "int8.onnx", threads=1)
    found, expected = runner.infer(given.feeds), OnnxRuntimeRunner(given.path).infer(given.feeds)
    for name, y in expected.items():
        np.testing.assert_allclose(found[name], y, rtol=0, atol=INT8_TOLERANCE * float(np.abs(y).max()))
    assert runner.name == "openvino-int8"


def test_inputs_that_do_not_fit(twin: Path) -> None:
    names = [value.name for value in onnx.load(str(twin)).graph.input]
    runner = OpenVinoRunner(twin, shapes=dict(zip(names, ([2, 3, 5, 5], [2, 6]), strict=True)))
    feeds = dict(zip(names, (np.zeros((1, 3, 5, 5), np.float32), np.zeros((2, 6), np.float32)), strict=True))
    with pytest.raises(InputRefused, match=f"openvino: input '{names[0]}': shape 1x3x5x5; wanted: shape 2x3x5x5"):
        runner.infer(feeds)


def test_files_that_it_does_not_take(tmp_path: Path, deployed: Callable[..., Any]) -> None:
    with pytest.raises(InputRefused, match=r"none\.onnx: no such file"):
        OpenVinoRunner(tmp_path / "none.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(InputRefused, match=r"openvino: .*broken.onnx: OpenVINO \S+ does not load it: "):
        OpenVinoRunner(tmp_path / "broken.onnx")
