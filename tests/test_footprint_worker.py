from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnn_deploy.bench import Footprint, run_worker
from bnn_deploy.errors import InputRefused
from bnn_deploy.footprint_worker import write_request
from bnn_deploy.runners.catalogue import Task

WORKER = "bnn_deploy.footprint_worker"


def request(path: Path, given: Any, file: str) -> Path:
    feeds = {name: array[:2] for name, array in given.feeds.items()}
    task = Task(file, 1, {name: list(array.shape) for name, array in feeds.items()}, ["y"])
    write_request(path / "request.json", "onnxruntime", task, feeds)
    return path / "request.json"


def test_a_runner_in_a_process_of_its_own(deployed: Callable[..., Any], tmp_path: Path) -> None:
    given = deployed("TwoInputs")
    found = run_worker(WORKER, request(tmp_path, given, str(given.path)), "onnxruntime")
    assert isinstance(found, Footprint) and found.load_ms > 0
    if sys.platform == "linux":
        assert found.peak_rss_bytes is not None and found.base_rss_bytes is not None
        assert found.peak_rss_bytes >= found.base_rss_bytes > 0


def test_inputs_of_any_name_arrive(tmp_path: Path) -> None:
    feeds = {"image/0:x": np.ones(2, np.float32), "file": np.zeros(3, np.int64)}
    write_request(tmp_path / "r.json", "onnxruntime", Task("f", 1, {}, []), feeds)
    content = json.loads((tmp_path / "r.json").read_text("utf-8"))
    with np.load(content["feeds"]) as arrays:
        assert content["names"] == list(feeds)
        assert [arrays[str(index)].tolist() for index in range(2)] == [[1, 1], [0, 0, 0]]


def test_a_refusal_comes_back_in_one_line(deployed: Callable[..., Any], tmp_path: Path) -> None:
    path = request(tmp_path, deployed("TwoInputs"), str(tmp_path / "none.onnx"))
    with pytest.raises(InputRefused, match=r"runner onnxruntime: .*none\.onnx: no such file; wanted: an ONNX file$"):
        run_worker(WORKER, path, "onnxruntime")


def test_it_imports_no_more_than_a_runner_needs() -> None:
    """Memory that the worker takes for itself would count as every runner's."""
    code = f"import {WORKER}, sys; print(sorted({{'torch', 'onnx', 'onnxruntime', 'openvino'}} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout == "[]\n"
