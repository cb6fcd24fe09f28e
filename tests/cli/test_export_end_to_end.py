"""`bnn-deploy export` of a user's own network, from the command line to the files, in the processes that it starts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

CODE = """
import os
import torch
from torch import nn as tnn
from bnn_deploy import nn

print("import says so")

class Net(tnn.Module):
    def __init__(self, zero="one"):
        super().__init__()
        self.stem = tnn.Conv2d(3, 8, 3, padding=1)
        self.conv = nn.BinaryConv2d(8, 40, 3, padding=1, config=nn.BinarizeConfig(zero=zero))
        self.again = nn.BinaryConv2d(40, 40, 3, config=nn.BinarizeConfig(zero=zero))
        self.head = tnn.Linear(40, 5)

    def forward(self, x):
        print("forward says so")
        os.write(1, b"forward writes so\\n")
        x = self.conv(self.stem(x).round())
        return self.head(self.again(x - 0.3).mean(dim=(2, 3)))

class Vanishes(Net):
    def forward(self, x):
        os._exit(0)

class Branches(Net):
    def forward(self, x):
        return super().forward(x) if x.sum() > 0 else super().forward(-x)

class Sabotaged(Net):
    '''A network whose import breaks the runtime that the file is checked with.'''

    def __init__(self):
        super().__init__()
        from bnn_deploy.runners.onnxruntime import OnnxRuntimeRunner
        right = OnnxRuntimeRunner.infer
        OnnxRuntimeRunner.infer = lambda self, feeds: {k: v * 2 for k, v in right(self, feeds).items()}
"""
SHAPE = ("--input", "1x3x8x8")
REPORT_KEYS = {"model", "inputs", "opset", "file_bytes", "float_bytes", "layers", "parity"}
LAYER_KEYS = {
    "name",
    "kind",
    "binary",
    "reason",
    "levels",
    "shape",
    "macs",
    "weight_bits",
    "scale",
    "padding",
}
PARITY_KEYS = {
    "accumulator_mismatches",
    "max_abs_error",
    "sign_flips",
    "ties",
    "argmax_agreement",
    "samples",
    "passed",
}

Run = Callable[..., Any]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command; what every process that it starts writes is captured too."""
    from bnn_deploy.cli.main import main

    def run(*arguments: str) -> SimpleNamespace:
        capfd.readouterr()
        status = main(arguments)
        out, err = capfd.readouterr()
        return SimpleNamespace(status=status, out=out, err=err)

    return run


@pytest.fixture
def code(tmp_path: Path) -> str:
    path = tmp_path / "mine.py"
    path.write_text(CODE)
    return str(path)


def refuse_constant(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def test_a_network_becomes_a_file_that_runs(run: Run, code: str, tmp_path: Path) -> None:
    """Export, then look at the file and run it, as a user would."""
    out = tmp_path / "build" / "net"
    done = run("export", f"{code}:Net", "-o", str(out), *SHAPE, "--json", "--seed", "5")
    assert done.status == 0, done.err
    report = json.loads(done.out, parse_constant=refuse_constant)
    assert report == json.loads((out / "report.json").read_text())
    assert sorted(path.name for path in out.iterdir()) == ["model.onnx", "report.json"]
    # What the model printed is on stderr, among the progress.
    for line in ("import says so", "forward says so", "forward writes so", "exporting to ONNX"):
        assert line in done.err

    assert set(report) >= REPORT_KEYS and report["passed"] is True
    assert all(set(layer) >= LAYER_KEYS for layer in report["layers"])
    assert [(layer["name"], layer["binary"]) for layer in report["layers"]] == [
        ("stem", False),
        ("conv", True),
        ("again", True),
        ("head", False),
    ]
    assert {"pytorch", "onnxruntime"} <= set(report["parity"])
    assert all(set(result) >= PARITY_KEYS and result["passed"] for result in report["parity"].values())
    assert report["file_bytes"] == (out / "model.onnx").stat().st_size < report["float_bytes"]

    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    shown = run("run", str(out), "--input", str(tmp_path / "x.npy"), "--json")
    assert shown.status == 0 and shown.err == ""
    session = onnxruntime.InferenceSession(str(out / "model.onnx"), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"x": x})
    np.testing.assert_array_equal(np.float32(json.loads(shown.out)["outputs"]["output"]), expected)

    table = run("inspect", str(out))
    assert table.status == 0 and "2 of 4 layers are 1-bit" in table.out


def test_sign_of_0_made_one_is_said_in_the_summary(run: Run, code: str, tmp_path: Path) -> None:
    words = ("--kwargs", '{"zero": "zero"}', "--sign-zero", "one", "--exporter", "legacy", "--dynamic", "none")
    done = run("export", f"{code}:Net", "-o", str(tmp_path / "out"), *SHAPE, *words)
    assert done.status == 0, done.err
    lines = done.out.splitlines()
    assert lines[0] == f"{tmp_path / 'out'}/model.onnx"
    assert "  sign(0)    taken for one in 2 layers, as asked; PyTorch was run so too" in lines
    assert any(line.startswith("parity with the exact reference: passed on 1 samples") for line in lines)
    assert not [line for line in lines if "says so" in line]
    model = onnx.load(str(tmp_path / "out" / "model.onnx"))
    assert not [node for node in model.graph.node if "Ternary" in node.op_type]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Vanishes", "the process that ran it ended with status 0 and no result (while loading "),
        ("Branches", "PyTorch could not capture forward: "),
    ],
)
def test_a_network_that_cannot_be_exported(name: str, message: str, run: Run, code: str, tmp_path: Path) -> None:
    done = run("export", f"{code}:{name}", "-o", str(tmp_path / "made" / "out"), *SHAPE, "--json")
    assert (done.status, done.out) == (2, "")
    *progress, last = done.err.splitlines()
    assert last.startswith("error: ") and message in last and "; fix: " in last
    assert "Traceback" not in done.err
    assert not [line for line in progress if line.startswith("error")]
    assert not (tmp_path / "made").exists()


def test_a_failed_check_exits_1_and_takes_the_model_away(run: Run, code: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name in ("model.onnx", "report.json"):
        (out / name).write_text("of an earlier export")
    done = run("export", f"{code}:Sabotaged", "-o", str(out), *SHAPE, "--json")
    assert (done.status, done.out) == (1, "")
    last = done.err.splitlines()[-1]
    assert last.startswith(f"error: {code}:Sabotaged: the exported file is not the PyTorch model: onnxruntime: conv: ")
    assert last.endswith(f"details: {out / 'report.failed.json'}")
    assert "Traceback" not in done.err
    assert [path.name for path in out.iterdir()] == ["report.failed.json"]
    report = json.loads((out / "report.failed.json").read_text(), parse_constant=refuse_constant)
    assert report["passed"] is False and len(report["failures"]) > 1
