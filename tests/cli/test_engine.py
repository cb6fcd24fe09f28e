"""`bnn-deploy engine`, from the command line."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bnn_deploy.cli.engine import parse_profile, print_summary
from bnn_deploy.errors import InputRefused
from bnn_deploy.native import PLUGIN_VARIABLE, TENSORRT_PLUGIN
from bnn_deploy.tensorrt.profiles import SizeRange

Cli = Callable[..., Any]

builds = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64" or TENSORRT_PLUGIN.find() is None,
    reason="TensorRT-RTX is for Linux on x86-64, and the plugin has to be built",
)


@pytest.fixture
def folder(deployed: Callable[..., Any], tmp_path: Path) -> Path:
    """As export leaves one."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model.onnx").write_bytes(deployed("Residual").path.read_bytes())
    return tmp_path / "out"


@builds
def test_a_table_of_layers(folder: Path, cli: Cli) -> None:
    status, out, err = cli("engine", str(folder))
    assert (status, err) == (0, ""), err
    heading, _, *rows = out.splitlines()
    assert heading.split() == ["layer", "kind", "outputs", "bytes"], "formats are not known without a GPU"
    first = next(row for row in rows if row.startswith("first "))
    assert "plugin_v3" in first and "float ?x34x4x4" in first
    assert rows[-3].endswith("of them our plugins; fp32") and rows[-2] == "profile: batch 1..8..32"
    size = (folder / "model.engine").stat().st_size
    assert rows[-1].startswith(f"{folder / 'model.engine'}: {size:,} bytes, for tensorrt_rtx 1.")
    assert {path.name for path in folder.iterdir()} == {"model.onnx", "model.engine", "model.engine.json"}


@builds
def test_json_is_the_metadata(folder: Path, cli: Cli, tmp_path: Path) -> None:
    target = tmp_path / "x.engine"
    profiles = ("--profile", "batch=1", "--profile", "batch=2,4,8")
    status, out, err = cli("engine", str(folder), "-o", str(target), "--json", "--no-plugin", *profiles)
    assert (status, err) == (0, "")
    document = json.loads(out)
    assert document == json.loads((tmp_path / "x.engine.json").read_text("utf-8"))
    assert document["profiles"] == [{"batch": [1, 1, 1]}, {"batch": [2, 4, 8]}] and document["plugin_version"] == ""


@builds
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--timing-cache", "FOLDER"), "--timing-cache FOLDER: a folder; wanted: the name of a file"),
        (("--timing-cache", "FOLDER/model.onnx/t"), "--timing-cache FOLDER/model.onnx: FOLDER/model.onnx is a file"),
        (("--timing-cache", "FOLDER/t"), "--timing-cache: TensorRT-RTX "),
        (("--version-compatible",), "--version-compatible: TensorRT-RTX "),
        (("--embed-plugin", "--no-plugin"), "--embed-plugin: the engine has no plugin; fix: leave it out"),
        (("--out", "FOLDER"), "--out FOLDER: a folder; wanted: the name of a file; fix: FOLDER/model.engine"),
        (("--out", "FOLDER/model.onnx/x"), "--out FOLDER/model.onnx: FOLDER/model.onnx is a file; wanted: a folder"),
        (("--out", "FOLDER/model.onnx"), "--out FOLDER/model.onnx: the model itself; wanted: another name"),
        (("--profile", "bacth=1"), "a profile for `bacth`: the model has no free axis of that name; free are: batch"),
        (("--profile", "batch"), "--profile 'batch': 'batch'; wanted: AXIS=MIN,OPT,MAX; fix: --profile 'batch=1,8,32'"),
        (("--profile", "batch=8,1,32"), "a profile: sizes 8, 1, 32; wanted: minimum <= optimum <= maximum"),
    ],
)
def test_refusals_are_one_line_with_the_flag_and_leave_nothing(
    arguments: tuple[str, ...], message: str, folder: Path, cli: Cli
) -> None:
    words = [word.replace("FOLDER", str(folder)) for word in arguments]
    status, out, err = cli("engine", str(folder), *words)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"error: {message.replace('FOLDER', str(folder))}")
    assert [path.name for path in folder.iterdir()] == ["model.onnx"]


def test_a_plugin_that_is_missing(folder: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PLUGIN_VARIABLE, str(folder / "none.so"))
    status, _, err = cli("engine", str(folder))
    assert status == 2 and err.startswith(
        f"error: the TensorRT plugin: no file {folder / 'none.so'}; fix: make plugins"
    )


@pytest.mark.parametrize(
    ("text", "profile"),
    [
        ("batch=1,8,32", {"batch": SizeRange(1, 8, 32)}),
        ("batch=4", {"batch": SizeRange(4, 4, 4)}),
        (" batch = 1, 2 ,3 ;height=32", {"batch": SizeRange(1, 2, 3), "height": SizeRange(32, 32, 32)}),
        ("x[2]=5", {"x[2]": SizeRange(5, 5, 5)}),
    ],
)
def test_profiles(text: str, profile: dict[str, SizeRange]) -> None:
    assert parse_profile(text) == profile


@pytest.mark.parametrize(
    "text", ["", "batch", "=1", "batch=", "batch=1,2", "batch=1,2,3,4", "batch=a", "a=1;", "a=1;a=2"]
)
def test_profiles_that_do_not_read(text: str) -> None:
    with pytest.raises(InputRefused, match="wanted: AXIS=MIN,OPT,MAX"):
        parse_profile(text)


def test_formats_are_a_column_where_they_are_known(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from types import SimpleNamespace

    output = {"shape": [-1, 3], "type": "HALF"}
    layers = [
        {"name": "a", "kind": "PLUGIN_V3", "outputs": [{**output, "format": "kHWC8"}, output], "bytes": 1234},
        {"name": "b", "kind": "POOLING", "outputs": [output], "bytes": 0},
    ]
    (tmp_path / "x.engine").write_bytes(b"plan")
    metadata: Any = SimpleNamespace(layers=layers, profiles=[], precision="fp16", sdk="tensorrt", sdk_version="11.0")
    print_summary(tmp_path / "x.engine", metadata)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["layer", "kind", "outputs", "formats", "bytes"]
    assert lines[2].split() == ["a", "plugin_v3", "half", "?x3,", "half", "?x3", "kHWC8,", "1,234"]
    assert "2 layers, 1 of them our plugins; fp16" in lines


def test_help_needs_neither_tensorrt_nor_onnx() -> None:
    code = (
        "import sys\nfrom bnn_deploy.cli.main import main\nassert main(['engine', '--help']) == 0\n"
        "print([name for name in ('onnx', 'torch', 'numpy', 'tensorrt', 'tensorrt_rtx') if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines()[-1] == "[]"
