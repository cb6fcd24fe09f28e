"""`bnn-deploy parity`, from the command line to the files, in the processes that it starts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

from bnn_deploy.cli import parity as command

CODE = """
import torch
from torch import nn as tnn
from bnn_deploy import nn

class Net(tnn.Module):
    def __init__(self, channels=8):
        super().__init__()
        self.stem = tnn.Conv2d(3, channels, 3, padding=1)
        self.norm = tnn.BatchNorm2d(channels)
        self.conv = nn.BinaryConv2d(channels, channels, 3, padding=1)
        self.head = tnn.Linear(channels, 5)

    def forward(self, x):
        x = self.stem(x)
        return self.head((self.norm(self.conv(x)) + x).mean(dim=(2, 3)))
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that `export` wrote, of a network in `net.py` beside it."""
    from bnn_deploy.cli.main import main

    folder = tmp_path_factory.mktemp("parity")
    (folder / "net.py").write_text(CODE)
    spec = f"{folder / 'net.py'}:Net"
    assert main(["export", spec, "-o", str(folder / "out"), "--input", "1x3x6x6", "--kwargs", '{"channels": 8}']) == 0
    return folder / "out"


@pytest.fixture
def copy(exported: Path, tmp_path: Path) -> Path:
    for name in ("model.onnx", "report.json"):
        (tmp_path / name).write_bytes((exported / name).read_bytes())
    return tmp_path


def everything(folder: Path, classes: int = 5) -> tuple[str, ...]:
    """Every file that the command can be told to write or read, in `folder`."""
    for label in range(classes):
        (folder / "labelled" / f"class {label}").mkdir(parents=True)
        pixels = np.random.default_rng(label).integers(0, 255, (6, 6, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "labelled" / f"class {label}" / "image.png")
    written = {"-o": "found", "--html": "page.html", "--junit": "junit.xml", "--golden": "golden"}
    paths = [part for option, name in written.items() for part in (option, str(folder / name))]
    return (*paths, "--labels", str(folder / "labelled"), "--mean", "0.5", "--deviation", "0.25", "--bisect")


def test_everything_at_once(exported: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    page, junit, golden = (tmp_path / name for name in ("page.html", "junit.xml", "golden"))
    options = ("--batch", "3", "--samples", "5", "--runner", "onnxruntime", "--json")
    outcome = cli("parity", str(exported), *everything(tmp_path), *options)
    assert outcome.status == 0, outcome.err
    report = json.loads(outcome.out)
    assert report == json.loads((tmp_path / "found" / "parity.json").read_text())
    assert report["passed"] and report["failures"] == [] and report["precision"] == "fp32"
    cases = {case["case"]: case for case in report["cases"]}
    assert {"random images", "batch 3", "hard values", "not finite", "binarisations"} == set(cases)
    assert list(cases["batch 3"]["runners"]) == ["pytorch", "onnxruntime"] and cases["batch 3"]["samples"] == 3
    assert "without oneDNN" in cases["random images"]["spread"] and cases["batch 3"]["spread"] is None
    for case in report["cases"][:-1]:
        for layer in case["runners"]["onnxruntime"]["layers"]:
            assert layer["bound"] > 0 and layer["bound_used"] <= 1 and layer["inexact"] == 0
    assert page.read_text().startswith("<!") and junit.read_bytes().startswith(b"<?xml")
    assert report["accuracy"]["samples"] == 5 and set(report["accuracy"]["top1"]) == {"pytorch", "onnxruntime"}
    assert report["accuracy"]["classes"] == [f"class {label}" for label in range(5)]
    assert not (tmp_path / "found" / "bisected").exists()
    assert cli("verify", str(golden), "--runner", "onnxruntime").status == 0


def test_everything_at_once_of_a_file_that_is_wrong(copy: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    """The bits of the first layer reversed: every report is written and says so, and the case runs by itself."""
    model = onnx.load(str(copy / "model.onnx"))
    (node,) = [node for node in model.graph.node if node.name == "conv"]
    (tensor,) = [tensor for tensor in model.graph.initializer if tensor.name == node.input[1]]
    words = numpy_helper.to_array(tensor).copy()
    words.flat[0] ^= 4
    tensor.CopyFrom(numpy_helper.from_array(words, tensor.name))
    onnx.save(model, str(copy / "model.onnx"))
    request = json.loads((copy / "report.json").read_text())["request"]
    options = ("--model", request["model"], "--input-shape", "1x3x6x6", "--batch", "1", "--runner", "onnxruntime")
    outcome = cli("parity", str(copy), *everything(tmp_path), *options)
    assert outcome.status == 1, outcome.err
    found = tmp_path / "found"
    assert not json.loads((found / "parity.json").read_text())["passed"]
    assert "Parity fails" in (tmp_path / "page.html").read_text()
    tests = ElementTree.parse(tmp_path / "junit.xml").iter("testcase")
    assert "conv" in {test.get("name") for test in tests if test.find("failure") is not None}
    # The bundle is PyTorch's word, and so the file in it is refuted too.
    assert cli("verify", str(tmp_path / "golden"), "--runner", "onnxruntime").status == 1
    script = found / "bisected" / "onnxruntime" / "reproduce.py"
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert run.returncode == 1 and "the failure is there" in run.stdout, run.stderr


def test_labels_of_other_classes_are_refused_before_anything_runs(
    exported: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    outcome = cli("parity", str(exported), *everything(tmp_path, classes=3))
    assert outcome.status == 2 and outcome.out == ""
    assert "5 class scores, and 3 classes in folder" in outcome.err.splitlines()[-1]
    assert "random images" not in outcome.err
    assert [path.name for path in tmp_path.iterdir() if path.name != "found"] == ["labelled"]


def test_a_table(exported: Path, cli: Callable[..., Any], tmp_path: Path) -> None:
    x = tmp_path / "x.npy"
    np.save(x, np.random.default_rng(0).standard_normal((2, 3, 6, 6)).astype(np.float32))
    options = ("--no-adversarial", "--batch", "1", "-i", str(x), "-o", str(tmp_path))
    outcome = cli("parity", str(exported / "model.onnx"), *options)
    assert outcome.status == 0, outcome.err
    lines = outcome.out.splitlines()
    assert lines[0].endswith(": passed") and "given inputs" in outcome.out and "binarisations" not in outcome.out
    assert any(line.startswith("PyTorch, without oneDNN") for line in lines)
    assert lines[-1] == f"{tmp_path}/parity.json has every layer"


def test_another_model_fails(copy: Path, cli: Callable[..., Any]) -> None:
    """Weights of another seed: the file is well-formed and not this network's."""
    report = json.loads((copy / "report.json").read_text())
    report["request"]["seed"] = 1
    (copy / "report.json").write_text(json.dumps(report))
    outcome = cli("parity", str(copy), "--runner", "onnxruntime", "--no-adversarial", "--batch", "1", "--bisect")
    assert outcome.status == 1, outcome.err
    assert "onnxruntime: conv:" in outcome.out and "FAILED" in outcome.out
    assert (copy / "bisected" / "onnxruntime" / "case.onnx").is_file()
    assert not json.loads((copy / "parity.json").read_text())["passed"]


def test_a_file_of_another_network(copy: Path, cli: Callable[..., Any]) -> None:
    outcome = cli("parity", str(copy), "--model", "birealnet", "--no-adversarial", "--batch", "1")
    assert outcome.status == 1, outcome.err
    assert "conv: not a layer of the PyTorch network; the file is of another model" in outcome.out


def tamper(path: Path) -> None:
    model = onnx.load(str(path))
    (node,) = [node for node in model.graph.node if node.name == "conv"]
    (tensor,) = [tensor for tensor in model.graph.initializer if tensor.name == node.input[2]]
    scale = numpy_helper.to_array(tensor).copy()
    scale[3] = np.nextafter(scale[3], np.float32(9))
    tensor.CopyFrom(numpy_helper.from_array(scale, tensor.name))
    onnx.save(model, str(path))


def test_a_file_changed_after_its_export(copy: Path, cli: Callable[..., Any]) -> None:
    tamper(copy / "model.onnx")
    outcome = cli("parity", str(copy))
    assert outcome.status == 2 and "its SHA-256 is" in outcome.err and outcome.out == ""
    spec = json.loads((copy / "report.json").read_text())["request"]["model"]
    options = (
        "--model",
        spec,
        "--input-shape",
        "1x3x6x6",
        "--no-adversarial",
        "--batch",
        "1",
        "--runner",
        "onnxruntime",
    )
    outcome = cli("parity", str(copy), *options)
    assert outcome.status == 1, outcome.err
    assert "the file: conv: the scale of 1 of 8 channels is not the PyTorch network's, rounded once" in outcome.out


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (("--runner", "tensorrt-9"), "runner 'tensorrt-9': no such runner"),
        (("--size", "12"), "not a height and a width"),
        (("--input-shape", "0x3"), "error: --input-shape '0x3': not a shape"),
        (("--mean", "a"), "not numbers"),
        (("--input", "nowhere.npy"), "no such file"),
        (("--images", "nowhere"), "no such folder"),
        (("--html", "."), "the name of a file"),
        (("--junit", "model.onnx/junit.xml"), "is a file"),
        (("--input", "other-name.npz"), "inputs ['y']"),
        (("--input", "empty.npy"), "samples: 0 of 'x'"),
        (("--input", "small.npy"), "shape 2x3x5x6"),
        (("--size", "5x7"), "shape anyx3x6x6"),
        (("--kwargs", '{"depth": 3}'), "no keyword argument 'depth'"),
        (("--model", "no_such_model"), "no_such_model"),
    ],
)
def test_refusals(
    options: tuple[str, str], wanted: str, copy: Path, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.zeros((2, 3, 6, 6), np.float32)
    np.savez(copy / "other-name.npz", y=image)
    np.save(copy / "empty.npy", image[:0])
    np.save(copy / "small.npy", image[:, :, :5])
    monkeypatch.chdir(copy)
    before = sorted(copy.iterdir())
    outcome = cli("parity", str(copy), *options)
    assert outcome.status == 2, outcome.err
    assert wanted in outcome.err.splitlines()[-1] and outcome.out == ""
    assert sorted(copy.iterdir()) == before


def test_without_a_report_the_model_must_be_named(copy: Path, cli: Callable[..., Any]) -> None:
    (copy / "report.json").unlink()
    outcome = cli("parity", str(copy))
    assert outcome.status == 2 and "--model" in outcome.err
    (copy / "report.json").write_text('{"model": "net"}')
    outcome = cli("parity", str(copy))
    assert outcome.status == 2 and "export again, or --model" in outcome.err


def test_options_override_the_report(copy: Path, monkeypatch: pytest.MonkeyPatch, cli: Callable[..., Any]) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(command, "run", lambda request, **_: asked.append(request) or 0)
    assert cli("parity", str(copy), "--sign-zero", "one", "--runner", "reference", "--size", "5x7").status == 0
    (request,) = asked
    assert request["network"]["sign_zero"] == "one" and request["network"]["kwargs"] == {"channels": 8}
    assert request["network"]["model"].endswith("net.py:Net") and request["network"]["model"].startswith("/")
    assert (request["runners"], request["sizes"]) == (["reference"], [[5, 7]])
    assert request["sha256"] == json.loads((copy / "report.json").read_text())["sha256"]
