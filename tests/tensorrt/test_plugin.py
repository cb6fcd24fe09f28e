"""Loading our plugins into TensorRT-RTX's registry, and what it says when it cannot."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bnn_deploy import opset
from bnn_deploy.errors import CheckFailed, InputRefused
from bnn_deploy.tensorrt import plugin as loading
from bnn_deploy.tensorrt.plugin import load_plugin, plugin_ops, take_plugin_error
from bnn_deploy.tensorrt.sdk import load_sdk


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    yield
    load_plugin.cache_clear()


def test_it_serves_every_op_whose_activations_are_bits(plugin: Path) -> None:
    load_plugin(plugin)
    load_plugin.cache_clear()
    load_plugin(plugin)  # as where somebody else has loaded it
    float_activations = {name for name in opset.WEIGHT_OPS if name.startswith("BinaryWeight")}
    ours = {*opset.PACK_OPS.values(), *opset.WEIGHT_OPS, opset.PACK_INTERVAL, opset.PACKED_MAX_POOL2D}
    assert plugin_ops(load_sdk()) & ours == ours - float_activations


def test_no_library(tmp_path: Path) -> None:
    path = tmp_path / "plugin.so"
    path.write_bytes(b"no library")
    with pytest.raises(InputRefused, match=r"plugin\.so: cannot be loaded: .*wanted: the library that `make plugins`"):
        load_plugin(path)


def compiled(folder: Path, source: str) -> Path:
    """A library of its own name each, which the dynamic loader tells from all others."""
    if shutil.which("gcc") is None:
        pytest.skip("no C compiler")
    path = folder / "plugin.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-x", "c", "-o", path, "-"], input=source, text=True, check=True)
    return path


def test_a_library_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match=r"plugin\.so: a library without our plugins"):
        load_plugin(compiled(tmp_path, "int nothing;"))


def test_a_library_that_tensorrt_does_not_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "_creators", lambda sdk: [])
    source = "void *getCreators(int *n) { *n = 0; return 0; } int bnn_plugin_last_error(char *t, int n) { return 0; }"
    with pytest.raises(CheckFailed, match=r"TensorRT-RTX \S+ does not load .*plugin\.so: "):
        load_plugin(compiled(tmp_path, source))


def test_another_version(plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_plugin(plugin)
    load_plugin.cache_clear()
    monkeypatch.setattr(loading, "VERSION", "2")
    with pytest.raises(InputRefused, match=r"plugins of version 1; wanted: version 2; fix: make plugins"):
        load_plugin(plugin)
    assert opset.PACKED_CONV2D not in plugin_ops(load_sdk())


def test_no_message_where_nothing_was_refused(plugin: Path) -> None:
    take_plugin_error(plugin)
    assert take_plugin_error(plugin) == ""
