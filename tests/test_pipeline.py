"""The main job in this process: what the report says, what is refused, and what a failed check looks like."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from bnn_deploy import pipeline
from bnn_deploy.errors import InputRefused
from bnn_deploy.export.request import ExportRequest
from bnn_deploy.feeds import Preprocessing, preprocessing_of
from bnn_deploy.loading import LoadedModel
from bnn_deploy.nn import BinaryConv2d
from bnn_deploy.pipeline import check_parity, export_and_check
from bnn_deploy.runners.catalogue import RUNNERS
from bnn_deploy.runners.onnxruntime import OnnxRuntimeRunner
from bnn_deploy.samples import random_samples

CODE = """
import sys
import torch
from torch import nn as tnn
from bnn_deploy import nn

class Net(tnn.Module):
    def __init__(self, width=6, zero="one"):
        super().__init__()
        self.stem, self.norm = tnn.Conv2d(3, width, 3, padding=1), tnn.BatchNorm2d(width)
        self.conv = nn.BinaryConv2d(width, width, 3, padding=1, config=nn.BinarizeConfig(zero=zero))
        self.head = tnn.Linear(width, 4)

    def forward(self, x):
        return self.head(self.conv(self.norm(self.stem(x)).round()).mean(dim=(2, 3)))

class Vector(tnn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.BinaryLinear(1, 3, True)

    def forward(self, x):
        return self.fc(x[:, None])

class Wrong(Net):
    def forward(self, x):
        return self.body(x)

class Exits(Net):
    def forward(self, x):
        sys.exit("not today")

def widen(model):
    return Net(width=9)
"""


@pytest.fixture
def code(tmp_path: Path) -> str:
    """A file of the user's."""
    path = tmp_path / "mine.py"
    path.write_text(CODE)
    return str(path)


Export = Callable[..., dict[str, Any]]


@pytest.fixture
def export(code: str, tmp_path: Path) -> Export:
    """Exports one of the networks of the file; fields of the request by name."""

    def export(name: str = "Net", **fields: Any) -> dict[str, Any]:
        request = ExportRequest(f"{code}:{name}", str(tmp_path / "unused"), **{"inputs": [[1, 3, 6, 6]], **fields})
        folder = tmp_path / "work"
        folder.mkdir(exist_ok=True)
        return export_and_check(request, folder, stages.append)

    stages: list[str] = []
    export.stages = stages  # type: ignore[attr-defined]
    return export


def test_the_report(export: Any, code: str, tmp_path: Path) -> None:
    report = export(seed=3)
    assert json.loads(json.dumps(report)) == json.loads((tmp_path / "work" / "report.json").read_text())
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == ["model.onnx", "report.json"]
    assert export.stages == [
        f"loading {code}:Net",
        "exporting to ONNX",
        "checking parity with PyTorch, layer by layer and end to end",
    ]
    assert report["model"] == f"{code}:Net"
    assert report["passed"] is True and report["failures"] == []
    assert report["inputs"] == [[1, 3, 6, 6]] and report["opset"] == 20
    assert (report["dynamic"], report["precision"], report["exporter"]) == ("batch", "fp32", "dynamo")
    assert report["weights"] == "user" and report["accuracy"] is None
    assert report["file_bytes"] == (tmp_path / "work" / "model.onnx").stat().st_size
    assert report["float_bytes"] > 4 * 6 * 6 * 9
    assert report["parity_inputs"] == "random images, a blank one and a constant one"
    assert {"bnn_deploy", "python", "torch", "onnx", "onnxruntime", "numpy"} <= set(report["versions"])
    assert all({"name", "changes", "declined"} == set(record) for record in report["passes"])


def test_the_layers_of_the_report(export: Export) -> None:
    layers = {layer["name"]: layer for layer in export()["layers"]}
    assert [(name, layer["binary"], layer["weight_bits"]) for name, layer in layers.items()] == [
        ("stem", False, 32),
        ("conv", True, 1),
        ("head", False, 32),
    ]
    conv = layers["conv"]
    assert {"name", "kind", "binary", "reason", "levels", "shape", "macs", "weight_bits", "scale", "padding"} <= set(
        conv
    )
    assert (conv["kind"], conv["levels"], conv["reason"]) == ("conv2d", "bipolar", None)
    assert list(conv["shape"]) == [6, 6, 3, 3] and conv["macs"] == 6 * 6 * 9 * 36
    assert layers["stem"]["reason"] == "a float layer of the model"


def test_the_parity_of_the_report(export: Export) -> None:
    parity = export()["parity"]
    assert list(parity) == ["pytorch", *pipeline.exported_runners()]
    for result in parity.values():
        assert {
            "accumulator_mismatches",
            "max_abs_error",
            "sign_flips",
            "ties",
            "argmax_agreement",
            "samples",
            "passed",
        } <= set(result)
        assert (result["accumulator_mismatches"], result["samples"], result["passed"]) == (0, 16, True)
    assert parity["onnxruntime"]["accumulators"] == 16 * 6 * 36
    assert parity["onnxruntime"]["argmax_agreement"] == 1.0


def test_sign_of_0(export: Export) -> None:
    """Half of all inputs are exactly 0: the sums of the two networks differ, and each equals its own file."""
    ternary = export(kwargs={"zero": "zero"})
    assert ternary["passed"] and ternary["sign_zero"] == {"asked": "auto", "layers_changed": 0}
    assert [layer["levels"] for layer in ternary["layers"] if layer["binary"]] == ["ternary"]
    bipolar = export(kwargs={"zero": "zero"}, sign_zero="one")
    assert bipolar["passed"] and bipolar["sign_zero"] == {"asked": "one", "layers_changed": 1}
    assert [layer["levels"] for layer in bipolar["layers"] if layer["binary"]] == ["bipolar"]


def test_prepare_may_give_another_model(export: Export, code: str) -> None:
    report = export(prepare=f"{code}:widen")
    assert [list(layer["shape"]) for layer in report["layers"] if layer["binary"]] == [[9, 9, 3, 3]]


@pytest.mark.parametrize("batch", [1, 20])
def test_a_fixed_batch(batch: int, export: Export, tmp_path: Path) -> None:
    report = export(inputs=[[batch, 3, 6, 6]], dynamic="none")
    assert report["passed"]
    assert report["parity"]["onnxruntime"]["samples"] == batch
    assert report["parity_inputs"] == "random images"
    (value,) = onnx.load(str(tmp_path / "work" / "model.onnx")).graph.input
    assert value.type.tensor_type.shape.dim[0].dim_value == batch


def test_an_input_of_one_axis(export: Export) -> None:
    assert export("Vector", inputs=[[1]])["parity"]["onnxruntime"]["passed"]


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("Net", {"inputs": []}, r"mine.py:Net: the shape of its input is not known; .*fix: --input 1x3x224x224"),
        ("Net", {"inputs": [[1, 4, 6, 6]]}, r"its forward fails on input 1x4x6x6: RuntimeError: .*check --input"),
        ("Net", {"inputs": [[1, 3, 6, 6]] * 2}, r"its forward fails on input 1x3x6x6, 1x3x6x6: TypeError"),
        ("Wrong", {}, r"its forward fails on input 1x3x6x6: AttributeError: .*no attribute 'body' \(\w+\.py:\d+\)"),
        ("Exits", {}, r"its forward fails on input 1x3x6x6: SystemExit: not today \(mine\.py:\d+\)"),
        ("Absent", {}, r"no attribute 'Absent' there"),
        ("Net", {"kwargs": {"depth": 3}}, r"no keyword argument 'depth'; wanted: width, zero"),
        ("Net", {"kwargs": {"zero": "half"}}, r"zero='half'"),
    ],
)
def test_what_is_refused(name: str, fields: dict[str, Any], message: str, export: Export, tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match=message):
        export(name, **fields)
    assert list((tmp_path / "work").iterdir()) == []


class OffByALittle(OnnxRuntimeRunner):
    """A broken backend."""

    spoil = staticmethod(lambda array: array * 1.001)

    def infer(self, feeds: Any) -> dict[str, Any]:
        return {name: self.spoil(array) for name, array in super().infer(feeds).items()}


class NotANumber(OffByALittle):
    spoil = staticmethod(lambda array: array * np.float32(np.nan) if array.dtype == np.float32 else array)


@pytest.mark.parametrize("broken", [OffByALittle, NotANumber])
def test_a_failed_check_is_a_report_too(broken: Any, export: Export, tmp_path: Path, monkeypatch: Any) -> None:
    planted = replace(RUNNERS["onnxruntime"], make=lambda module, task: broken(task.file))
    monkeypatch.setitem(RUNNERS, "onnxruntime", planted)
    report = export()
    assert report["passed"] is False
    assert report["failures"] and all(failure.startswith("onnxruntime: ") for failure in report["failures"])
    assert any("conv: " in failure for failure in report["failures"])
    assert report["parity"]["pytorch"]["passed"] and not report["parity"]["onnxruntime"]["passed"]

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    written = (tmp_path / "work" / "report.json").read_text()
    assert json.loads(written, parse_constant=refuse)["passed"] is False


class Digits(torch.nn.Module):
    """Stands for a network of the zoo that ships with weights."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = BinaryConv2d(3, 4, 3, stride=3), torch.nn.Linear(4 * 100, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.conv(x).flatten(1))


class TestShippedNetworks:
    @pytest.fixture
    def export(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Export:
        """40 images, labelled by the network itself but for the first 4."""
        torch.manual_seed(0)
        module = Digits().eval()
        images = random_samples([1, *pipeline.digits.IMAGE_SHAPE], 40, 0)
        with torch.no_grad():
            labels = module(torch.from_numpy(images)).argmax(dim=1).numpy()
        labels[:4] = (labels[:4] + 1) % 10
        loaded = LoadedModel(module, "shipped-one", ((1, 3, 32, 32),), "shipped", "shipped weights")
        monkeypatch.setattr(pipeline, "load", lambda *_arguments, **_options: loaded)
        monkeypatch.setattr(pipeline.digits, "available", lambda: True)
        monkeypatch.setattr(pipeline.digits, "held_out", lambda: (images, labels))
        return lambda **fields: export_and_check(ExportRequest("shipped-one", "", **fields), tmp_path, lambda _: None)

    @pytest.mark.parametrize(("dynamic", "samples"), [("batch", 32), ("none", 1)])
    def test_accuracy_on_held_out_digits(self, dynamic: str, samples: int, export: Export, tmp_path: Path) -> None:
        report = export(dynamic=dynamic)
        accuracy = report["accuracy"]
        assert accuracy["top1"] == dict.fromkeys(["pytorch", *pipeline.exported_runners()], 0.9)
        assert (accuracy["samples"], accuracy["disagreements"]) == (40, 0)
        assert accuracy["dataset"] == pipeline.digits.SOURCE
        assert report["parity"]["onnxruntime"]["samples"] == samples
        assert report["parity_inputs"].startswith("held-out digits")
        written = preprocessing_of(onnx.load(str(tmp_path / "model.onnx")))
        assert written == Preprocessing((pipeline.digits.MEAN,), (pipeline.digits.DEVIATION,))

    def test_a_file_that_takes_no_digits(self, export: Export) -> None:
        """In batches of three, fixed."""
        report = export(dynamic="none", inputs=[[3, 3, 32, 32]])
        assert report["passed"] and report["accuracy"] is None
        assert report["parity_inputs"] == "random images"


def test_an_untrained_network_of_the_zoo(tmp_path: Path) -> None:
    request = ExportRequest("nin", "", kwargs={"width": 0.1}, exporter="legacy")
    report = export_and_check(request, tmp_path, lambda _: None)
    assert report["passed"]
    assert report["weights"] == "untrained" and "untrained" in report["weights_description"]
    assert sum(layer["binary"] for layer in report["layers"]) == 7


class TestCheckParity:
    def test_several_runners_and_inputs(self, networks: ModuleType) -> None:
        model = networks.make("TwoInputs")
        inputs = [random_samples(shape, 4, index) for index, shape in enumerate(model.shapes)]
        runners = ["reference", "onnxruntime", "onnxruntime-unoptimised"]
        results = check_parity(model, runners, inputs)
        assert list(results) == ["pytorch", *runners]
        assert all(result.passed and result.samples == 4 for result in results.values())

    def test_one_array(self, networks: ModuleType) -> None:
        results = check_parity(networks.make("Rectified"), ["reference"], random_samples([1, 4, 5, 5], 3, 0))
        assert results["reference"].passed

    def test_an_unknown_runner(self, networks: ModuleType) -> None:
        with pytest.raises(InputRefused, match="runner 'tpu': no such runner; wanted: one of reference, "):
            check_parity(networks.make("Rectified"), ["onnxruntime", "tpu"], np.zeros((1, 4, 5, 5), np.float32))


class TestMain:
    """What the worker process leaves for the one that started it."""

    @pytest.fixture
    def outcome(self, code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
        def outcome(name: str = "Net", **fields: Any) -> Any:
            request = ExportRequest(f"{code}:{name}", "", **{"inputs": [[1, 3, 6, 6]], **fields})
            folder = tmp_path / "work"
            folder.mkdir()
            (folder / "request.json").write_text(json.dumps(request.to_json()))
            assert pipeline.main(folder) == 0
            assert capsys.readouterr().out == ""
            return json.loads((folder / "outcome.json").read_text())

        return outcome

    def test_a_report(self, outcome: Callable[..., Any], tmp_path: Path) -> None:
        found = outcome()
        assert found["error"] is None
        assert found["report"] == json.loads((tmp_path / "work" / "report.json").read_text())
        assert (tmp_path / "work" / "stage.txt").read_text().startswith("checking parity")

    def test_a_refusal(self, outcome: Callable[..., Any], tmp_path: Path) -> None:
        found = outcome(inputs=[])
        assert found["report"] is None
        assert set(found["error"]) == {"kind", "where", "found", "wanted", "fix"}
        assert (found["error"]["kind"], found["error"]["fix"]) == ("refused", "--input 1x3x224x224")
        assert (tmp_path / "work" / "stage.txt").read_text().startswith("loading ")

    def test_an_error_of_ours(self, outcome: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_arguments: object, **_options: object) -> None:
            raise ZeroDivisionError("in our code")

        monkeypatch.setattr(pipeline, "export_onnx", fail)
        found = outcome()
        assert found["report"] is None and found["error"]["kind"] == "internal"
        assert found["error"]["message"].startswith("Traceback")
        assert "ZeroDivisionError: in our code" in textwrap.dedent(found["error"]["message"])
