"""Rows as documented, whatever the times: no test looks at the clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bnn_deploy
from bnn_deploy.benchmarking import benchmark, difference, software
from bnn_deploy.errors import InputRefused
from bnn_deploy.export import export_onnx
from bnn_deploy.native import find_library

REQUIRED = {
    "runner", "model", "batch", "threads", "p10_ms", "p50_ms", "p90_ms", "ratio", "load_ms", "peak_rss_bytes"
}  # fmt: skip


def test_a_row_for_each_threads_batch_and_runner(deployed: Callable[..., Any]) -> None:
    path, told = deployed("Residual").path, list[str]()
    runners = ["onnxruntime-float", *(["native-cpu"] if find_library() else ["onnxruntime"])]
    rows = benchmark(path, runners, batch=[1, 3], threads=[1, 2], rounds=2, seconds=0, progress=told.append)
    assert [(row.threads, row.batch, row.runner) for row in rows] == [
        (threads, batch, runner) for threads in (1, 2) for batch in (1, 3) for runner in runners
    ]
    for row in rows:
        assert asdict(row).keys() >= REQUIRED
        assert row.model == str(path) and row.rounds == 2
        assert 0 < row.p10_ms <= row.p50_ms <= row.p90_ms
        assert row.images_per_second == pytest.approx(1e3 * row.batch / row.p50_ms)
        assert row.difference is not None and row.difference < 1e-5
        assert (row.ratio == 1.0) >= (row.runner == runners[0])
    assert rows[1].file_bytes == path.stat().st_size and rows[0].file_bytes != rows[1].file_bytes
    assert told[0] == "making the float32 twin" and len(told) == 1 + 4 * 3


class TakesFloat16(torch.nn.Module):
    """A network behind an input of float16."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> Any:
        return self.network(x.float())


def test_inputs_of_float16(networks: Any, deployed: Callable[..., Any], tmp_path: Path) -> None:
    """Of the deployed file, and of a float twin alone that was given."""
    path, twin, image = tmp_path / "model.onnx", tmp_path / "float.onnx", torch.zeros((1, 3, 4, 4), dtype=torch.half)
    export_onnx(TakesFloat16(networks.make("Residual")).eval(), image, path, precision="fp16", float_path=twin)
    runners = ["onnxruntime", "onnxruntime-float", "onnxruntime-int8"]
    for rows in (
        benchmark(path, runners, rounds=1, seconds=0),
        benchmark(deployed("Residual").path, runners, rounds=1, seconds=0, float_path=twin),
    ):
        assert [row.runner for row in rows] == runners
        assert all(row.difference is not None for row in rows)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_eight_bit_network_and_openvino(precision: str, deployed: Callable[..., Any]) -> None:
    pytest.importorskip("openvino")
    runners = ["onnxruntime-float", "openvino", "onnxruntime-int8", "openvino-int8"]
    rows = benchmark(deployed("TwoInputs", precision=precision).path, runners, batch=2, rounds=1, seconds=0)
    assert [row.runner for row in rows] == runners
    apart = [row.difference for row in rows]
    assert apart[0] == 0 and apart[1] is not None and 0 < apart[1] < 1e-5
    assert all(value is not None and value > 1e-5 for value in apart[2:])
    assert rows[0].file_bytes == rows[1].file_bytes != rows[2].file_bytes == rows[3].file_bytes


def test_pytorch_runs_the_model_that_is_named_and_gets_its_threads_back(
    deployed: Callable[..., Any], repository: Path
) -> None:
    threads = torch.get_num_threads()
    spec = f"{repository / 'tests' / 'networks.py'}:Spatial"
    rows = benchmark(deployed("Spatial").path, ["onnxruntime", "pytorch"], threads=2, rounds=1, seconds=0, model=spec)
    assert [row.runner for row in rows] == ["onnxruntime", "pytorch"]
    assert rows[1].file_bytes is None
    assert rows[1].difference is not None  # other weights: the factory draws them
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"runners": ["onnxruntime", "quick"]}, "runner 'quick': no such runner; wanted: one of "),
        ({"runners": []}, r"runners: \[\]; wanted: one name or more, each once"),
        ({"runners": ["onnxruntime"] * 2}, r"runners: \['onnxruntime', 'onnxruntime'\]; wanted: one name or more"),
        ({"batch": 0}, r"batch: \[0\]; wanted: numbers of 1 or more"),
        ({"batch": []}, r"batch: \[\]; wanted: numbers of 1 or more"),
        ({"threads": [1, -2]}, r"threads: \[1, -2\]; wanted: numbers of 1 or more"),
        ({"rounds": 0}, "rounds, seconds: 0, 10.0; wanted: 1 round or more"),
        ({"seconds": float("nan")}, "rounds, seconds: 50, nan; wanted: 1 round or more, 0 seconds or more"),
        ({"inputs": {"y": np.zeros((1, 3, 4, 4), np.float32)}}, r"inputs: \['y'\]; wanted: \['x'\]"),
        ({"runners": ["pytorch"], "model": "no_such_model"}, "no_such_model"),
        ({"runners": ["pytorch"]}, "runner pytorch: no report beside"),
    ],
)
def test_refusals(options: dict[str, Any], message: str, deployed: Callable[..., Any]) -> None:
    with pytest.raises(InputRefused, match=message):
        benchmark(deployed("Residual").path, **({"runners": ["onnxruntime"]} | options))


def test_an_engine_is_for_tensorrt(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match=r"runner onnxruntime-float: .*x\.engine is an engine; wanted: an ONNX file"):
        benchmark(tmp_path / "x.engine", ["onnxruntime-float"])
    with pytest.raises(InputRefused, match=r"x\.engine: no such file"):
        benchmark(tmp_path / "x.engine")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match=r"none\.onnx: no such file"):
        benchmark(tmp_path / "none.onnx")


@pytest.mark.parametrize(
    ("expected", "found", "wanted"),
    [
        ([2.0, -4.0], [2.0, -3.0], 0.25),
        ([0.0], [0.5], 0.5),
        ([1.0], [np.nan], None),
        ([1.0], [[1.0]], None),
        ([1e30, 1.0], [1e30, 1.0], 0.0),
    ],
)
def test_difference(expected: Any, found: Any, wanted: float | None) -> None:
    assert difference({"y": np.float32(expected)}, {"y": np.float32(found)}) == wanted


def test_difference_of_other_outputs() -> None:
    assert difference({"y": np.ones(1)}, {"z": np.ones(1)}) is None
    assert difference({"y": np.ones(1), "z": np.ones(1)}, {"y": np.ones(1), "z": np.zeros(1)}) == 1.0


def test_software_says_which_kernels() -> None:
    found = software()
    assert found["bnn-deploy"] == bnn_deploy.__version__
    assert ("native kernels" in found) == (find_library() is not None)
