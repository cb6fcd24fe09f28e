"""From an engine file to an engine on a GPU, on one that is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_engine import FakeEngine, FakeGpu, FakeSdk

from bnn_deploy.errors import CheckFailed, InputRefused
from bnn_deploy.tensorrt import loaded
from bnn_deploy.tensorrt.loaded import LoadedEngine
from bnn_deploy.tensorrt.metadata import EngineMetadata, write_engine

Load = Callable[..., tuple[LoadedEngine, list[Any]]]


@pytest.fixture
def load(plan: bytes, metadata: EngineMetadata, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Writes an engine with changed metadata and loads it; also returns the plugins that were loaded for it."""

    def make(engine: FakeEngine | None, **changes: Any) -> tuple[LoadedEngine, list[Any]]:
        plugins: list[Any] = []
        sdk = FakeSdk(engine)
        monkeypatch.setattr(loaded, "load_sdk", lambda: sdk)
        monkeypatch.setattr(loaded, "cuda_version", lambda sdk: "13")
        monkeypatch.setattr(loaded, "load_plugin", plugins.append)
        monkeypatch.setattr(loaded, "TENSORRT_PLUGIN", SimpleNamespace(path=lambda: "ours"))
        write_engine(tmp_path / "x.engine", plan, replace(metadata, **changes))
        return LoadedEngine.from_file(tmp_path / "x.engine", FakeGpu()), plugins

    return make


@pytest.mark.parametrize(
    ("changes", "plugins", "host_code"),
    [
        ({}, ["ours"], False),
        ({"plugin_version": ""}, [], False),
        ({"plugin_embedded": True}, [], True),
        ({"version_compatible": True}, ["ours"], True),
    ],
)
def test_it_gets_the_plugin_and_the_rights_that_it_needs(
    changes: dict[str, Any], plugins: list[str], host_code: bool, load: Load
) -> None:
    engine, loaded_plugins = load(FakeEngine(), **changes)
    assert loaded_plugins == plugins
    assert engine._runtime.engine_host_code_allowed is host_code


def test_one_that_does_not_fit(load: Load) -> None:
    with pytest.raises(InputRefused, match=r"x\.engine: built with tensorrt 10\.14; wanted: one of 10\.15"):
        load(FakeEngine(), sdk_version="10.14")


def test_one_that_tensorrt_does_not_load_says_what_may_be_why(load: Load) -> None:
    message = r"x\.engine: TensorRT 10\.15 does not load the engine: not of this version"
    with pytest.raises(CheckFailed, match=f"{message}; it was built with CUDA 12, here is CUDA 13$"):
        load(None)
    with pytest.raises(CheckFailed, match=f"{message}$"):
        load(None, cuda="13")
