"""From a file to an engine file with its metadata."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest
import torch

from bnn_deploy import opset
from bnn_deploy.errors import CheckFailed, InputRefused
from bnn_deploy.export import export_onnx
from bnn_deploy.files import sha256
from bnn_deploy.native import PLUGIN_VARIABLE
from bnn_deploy.tensorrt import build
from bnn_deploy.tensorrt.build import DEFAULT_BATCH, build_engine
from bnn_deploy.tensorrt.metadata import Installation, metadata_path, read_engine
from bnn_deploy.tensorrt.options import BuildOptions
from bnn_deploy.tensorrt.profiles import SizeRange
from bnn_deploy.tensorrt.sdk import load_sdk


@pytest.fixture
def model(deployed: Callable[..., Any]) -> Path:
    path: Path = deployed("Residual").path
    return path


def test_the_engine_and_what_is_known_of_it(model: Path, plugin: Path, tmp_path: Path) -> None:
    target = tmp_path / "out" / "x.engine"
    metadata = build_engine(str(model), target)
    plan, found = read_engine(target)
    assert found == metadata and len(plan) > 1000
    assert sorted(file.name for file in target.parent.iterdir()) == ["x.engine", "x.engine.json"]
    assert (metadata.engine_sha256, metadata.model_sha256) == (sha256(target), sha256(model))
    assert (metadata.plugin_version, metadata.plugin_sha256) == ("1", sha256(plugin))
    assert metadata.precision == opset.FP32 and not metadata.plugin_embedded and not metadata.version_compatible
    assert metadata.profiles == [{"batch": [DEFAULT_BATCH.minimum, DEFAULT_BATCH.optimum, DEFAULT_BATCH.maximum]}]
    sdk = load_sdk()
    assert (metadata.sdk, metadata.sdk_version, metadata.cuda) == (sdk.__name__, sdk.__version__, "13")
    assert metadata.compute_capability == "", "TensorRT-RTX builds for every kind of GPU"
    assert metadata.inputs == {"x": {"shape": ["batch", 3, 4, 4], "type": "float32"}}


def test_layers_with_the_bytes_that_they_read(model: Path, plugin: Path, tmp_path: Path) -> None:
    layers = {layer["name"]: layer for layer in build_engine(model, tmp_path / "x.engine").layers}
    assert layers["stem"]["kind"] == "CONVOLUTION"
    assert layers["stem"]["bytes"] == 4 * (34 * 3 * 3 * 3 + 34)
    first = layers["first"]
    assert first["kind"] == "PLUGIN_V3"
    words = 4 * 34 * 3 * 3 * 2
    assert words + 2 * 4 * 34 <= first["bytes"] < words + 6 * 4 * 34, "signs, scale and bias, and an interval"
    assert [output["shape"][0] for output in first["outputs"]] == [-1] * len(first["outputs"])
    assert {output["type"] for output in first["outputs"]} <= {"FLOAT", "INT32"}
    assert not any("format" in output for layer in layers.values() for output in layer["outputs"]), "without a GPU"
    constants = sum(onnx.numpy_helper.to_array(tensor).nbytes for tensor in onnx.load(model).graph.initializer)
    assert abs(sum(layer["bytes"] for layer in layers.values()) - constants) < 200, "all of the file, and once"


def test_float16(networks: Any, plugin: Path, tmp_path: Path) -> None:
    export_onnx(networks.make("Residual"), torch.zeros(1, 3, 4, 4), tmp_path / "half.onnx", precision=opset.FP16)
    metadata = build_engine(tmp_path / "half.onnx", tmp_path / "half.engine")
    assert metadata.precision == opset.FP16
    layers = {layer["name"]: layer for layer in metadata.layers}
    assert layers["stem"]["outputs"][0]["type"] == "HALF" and layers["stem"]["bytes"] == 2 * (34 * 27 + 34)


def test_profiles_and_function_bodies(model: Path, tmp_path: Path) -> None:
    profiles = [{"batch": SizeRange(1, 1, 1)}, {"batch": SizeRange(2, 4, 8)}]
    metadata = build_engine(model, tmp_path / "x.engine", profiles=profiles, use_plugin=False)
    assert metadata.profiles == [{"batch": [1, 1, 1]}, {"batch": [2, 4, 8]}]
    assert (metadata.plugin_version, metadata.plugin_sha256) == ("", "")
    assert not [layer for layer in metadata.layers if layer["kind"].startswith("PLUGIN")]


def test_an_embedded_plugin_is_noted(model: Path, plugin: Path, tmp_path: Path) -> None:
    metadata = build_engine(model, tmp_path / "x.engine", options=BuildOptions(embed_plugin=True))
    assert metadata.plugin_embedded and metadata.plugin_sha256 == sha256(plugin)
    assert (tmp_path / "x.engine").stat().st_size > plugin.stat().st_size / 10


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("none.onnx", "x.engine", r"none\.onnx: no such file; wanted: an ONNX file"),
        ("text.onnx", "x.engine", r"text\.onnx: cannot be read as ONNX"),
        ("model.onnx", "folder", r"engine \S+/folder: a folder; wanted: the name of a file; fix: \S+/model\.engine"),
        ("model.onnx", "model.onnx", r"engine \S+/model\.onnx: the model itself; wanted: another name"),
        ("model.onnx", "text.onnx/x.engine", r"text\.onnx/x\.engine: cannot be written: (Not a directory|File exists)"),
    ],
)
def test_files_that_cannot_be(
    source: str, target: str, message: str, model: Path, plugin: Path, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.onnx").write_text("no model")
    (tmp_path / "model.onnx").write_bytes(model.read_bytes())
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputRefused, match=message):
        build_engine(tmp_path / source, tmp_path / target)
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "model.onnx").read_bytes() == model.read_bytes()


def test_a_plugin_that_is_missing(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PLUGIN_VARIABLE, str(tmp_path / "none.so"))
    with pytest.raises(InputRefused, match=r"the TensorRT plugin: no file \S+/none\.so; fix: make plugins, or set "):
        build_engine(model, tmp_path / "x.engine")
    assert not list(tmp_path.iterdir())


def test_axes_that_have_no_default(networks: Any, tmp_path: Path) -> None:
    export_onnx(networks.make("Spatial"), torch.zeros(1, 3, 8, 10), tmp_path / "x.onnx", dynamic="batch,spatial")
    with pytest.raises(InputRefused, match=r"axis `batch` of input x: its size is free, and the profile does not"):
        build_engine(tmp_path / "x.onnx", tmp_path / "x.engine", use_plugin=False)
    assert not metadata_path(tmp_path / "x.engine").exists()


def test_tensorrt_builds_for_the_gpu_that_it_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu: Any = SimpleNamespace(compute_capability="8.6")
    here = Installation("tensorrt", "10.15", "12", "1", "8.6")
    monkeypatch.setattr(build, "load_sdk", lambda: SimpleNamespace(__name__="tensorrt"))
    monkeypatch.setattr(build, "installation", lambda found: here if found is gpu else None)
    assert build._built_with(Path("plugin.so"), gpu) == here
    assert build._built_with(None, gpu) == Installation("tensorrt", "10.15", "12", "", "8.6")


def test_formats_are_asked_for_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(plan: bytes, gpu: Any, **options: Any) -> Any:
        raise CheckFailed("not for this GPU")

    gpu: Any = SimpleNamespace(compute_capability="8.6")
    monkeypatch.setattr(build, "LoadedEngine", lambda plan, gpu, **options: (plan, gpu))
    monkeypatch.setattr(build, "tensor_formats", lambda loaded: {"y": "linear"} if loaded == (b"plan", gpu) else {})
    assert build._formats(b"plan", gpu, None) == {"y": "linear"}
    assert build._formats(b"plan", None, None) == {}
    monkeypatch.setattr(build, "LoadedEngine", refuses)
    assert build._formats(b"plan", gpu, None) == {}
