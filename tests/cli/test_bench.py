"""The command: what it measures is `test_benchmarking.py`; here are options, table, JSON and messages."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnn_deploy.bench import BenchmarkRow
from bnn_deploy.cli.bench import milliseconds
from bnn_deploy.runners.catalogue import benchmarked_runners

ROW = BenchmarkRow(
    runner="onnxruntime-float", model="m.onnx", batch=8, threads=2, rounds=5, p10_ms=0.5, p50_ms=2.0, p90_ms=30.25,
    ratio=1.0, images_per_second=4000.0, load_ms=12.4, peak_rss_bytes=300 << 20, base_rss_bytes=100 << 20,
    file_bytes=9, difference=0.0,
)  # fmt: skip


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the command asks of `benchmark`, which answers with two rows."""
    options: dict[str, Any] = {}

    def answer(path: Path, runners: Any, batch: Any, threads: Any, **others: Any) -> list[BenchmarkRow]:
        options.update(others, path=path, runners=runners, batch=batch, threads=threads)
        others["progress"]("making it")
        slow = {"images_per_second": 7.25, "peak_rss_bytes": None, "base_rss_bytes": None, "difference": 0.25}
        return [ROW, replace(ROW, runner="openvino", ratio=0.123, **slow)]

    monkeypatch.setattr("bnn_deploy.benchmarking.benchmark", answer)
    return options


def test_options_arrive(deployed: Callable[..., Any], asked: Any, cli: Callable[..., Any], tmp_path: Path) -> None:
    path = deployed("Residual").path
    np.save(tmp_path / "x.npy", np.zeros((2, 3, 4, 4), np.float32))
    words = ["--runner", "openvino", "--runner", "native-cpu", "--batch", "1", "--batch", "8", "--threads", "2"]
    words += ["--rounds", "7", "--seconds", "0.5", "--input", str(tmp_path / "x.npy"), "--float", str(path)]
    assert cli("bench", str(path), *words, "--model", "nin", "--checkpoint", "w.pth").status == 0
    assert (asked["path"], asked["runners"]) == (path, ["openvino", "native-cpu"])
    assert (asked["batch"], asked["threads"], asked["rounds"], asked["seconds"]) == ([1, 8], [2], 7, 0.5)
    assert asked["inputs"]["x"].shape == (2, 3, 4, 4) and asked["float_path"] == path
    assert (asked["model"], str(asked["checkpoint"])) == ("nin", "w.pth")


def test_defaults(deployed: Callable[..., Any], asked: Any, cli: Callable[..., Any]) -> None:
    assert cli("bench", str(deployed("Residual").path)).status == 0
    assert (asked["runners"], asked["batch"], asked["threads"], asked["inputs"]) == (None, 1, 1, None)
    assert (asked["float_path"], asked["model"], asked["checkpoint"]) == (None, None, None)


def test_table(deployed: Callable[..., Any], asked: Any, cli: Callable[..., Any]) -> None:
    outcome = cli("bench", str(deployed("Residual").path))
    heading, _, first, second, *notes = outcome.out.splitlines()
    columns = "runner batch threads p10 ms p50 ms p90 ms ratio images/s load ms peak MiB network MiB"
    assert heading.split() == columns.split()
    times = ["0.500", "2.00", "30.2"]
    assert first.split() == ["onnxruntime-float", "8", "2", *times, "1.00", "4,000", "12", "300", "200"]
    assert second.split() == ["openvino", "8", "2", *times, "0.12", "7.2", "12"]
    assert "how many times as fast as the first runner" in " ".join(notes)
    assert outcome.err.splitlines() == [
        "making it",
        "openvino, batch 8: outputs up to 25.0% from those of onnxruntime-float, relative to the largest",
    ]


def test_json_on_stdout_and_in_a_file(
    deployed: Callable[..., Any], asked: Any, cli: Callable[..., Any], tmp_path: Path
) -> None:
    out = tmp_path / "new" / "bench.json"
    outcome = cli("bench", str(deployed("Residual").path), "--json", "--out", str(out))
    content = json.loads(outcome.out)
    assert content == json.loads(out.read_text("utf-8"))
    assert content["rows"][0]["peak_rss_bytes"] == 300 << 20 and content["rows"][1]["peak_rss_bytes"] is None
    assert {"machine", "software", "rows"} == content.keys()
    assert content["machine"]["processor"] and content["software"]["onnxruntime"]


def test_whole_way(deployed: Callable[..., Any], cli: Callable[..., Any]) -> None:
    words = ["--runner", "onnxruntime-float", "--runner", "onnxruntime", "--rounds", "1", "--json"]
    outcome = cli("bench", str(deployed("Residual").path), *words)
    assert outcome.status == 0
    rows = json.loads(outcome.out)["rows"]
    assert [row["runner"] for row in rows] == ["onnxruntime-float", "onnxruntime"]
    assert "onnxruntime-float, onnxruntime in turns" in outcome.err


def test_a_float16_file_with_the_default_runners(deployed: Callable[..., Any], cli: Callable[..., Any]) -> None:
    path = deployed("Residual", precision="fp16").path
    outcome = cli("bench", str(path), "--rounds", "1", "--json")
    assert outcome.status == 0, outcome.err
    rows = json.loads(outcome.out)["rows"]
    assert [row["runner"] for row in rows] == benchmarked_runners()
    assert "making the float32 twin" in outcome.err
    assert all(row["difference"] is not None for row in rows)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("none.onnx",), "error: none.onnx: no such file; wanted: an ONNX file, or a folder"),
        (("FILE", "--runner", "quick"), "error: runner 'quick': no such runner; wanted: one of onnxruntime, "),
        (("FILE", "--batch", "0"), "error: batch: [0]; wanted: numbers of 1 or more\n"),
        (("FILE", "--out", "FOLDER"), "a folder; wanted: the name of a file; fix: --out "),
        (("FILE", "--input", "none.npy"), "error: none.npy: no such file"),
        (("FILE", "--float", "none.onnx"), "error: none.onnx: no such file"),
    ],
)
def test_refusals(
    words: tuple[str, ...], message: str, deployed: Callable[..., Any], cli: Callable[..., Any], tmp_path: Path
) -> None:
    places = {"FILE": str(deployed("Residual").path), "FOLDER": str(tmp_path)}
    outcome = cli("bench", *(places.get(word, word) for word in words))
    assert (outcome.status, outcome.out) == (2, "")
    assert message in outcome.err and outcome.err.count("\n") == 1


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_measured(
    deployed: Callable[..., Any], asked: Any, cli: Callable[..., Any], tmp_path: Path
) -> None:
    taken = tmp_path / "taken"
    taken.touch()
    outcome = cli("bench", str(deployed("Residual").path), "--out", str(taken / "bench.json"))
    assert (outcome.status, outcome.out, asked) == (2, "", {})
    assert outcome.err.startswith(f"error: --out {taken}: {taken} is a file; wanted: a folder")


@pytest.mark.parametrize(
    ("value", "text"), [(0.01234, "0.012"), (0.9994, "0.999"), (1.234, "1.23"), (12.34, "12.3"), (1234.5, "1234")]
)
def test_milliseconds(value: float, text: str) -> None:
    assert milliseconds(value) == text
