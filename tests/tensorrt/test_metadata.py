"""An engine and its metadata: written together, read together, and refused where they do not fit."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bnn_deploy.errors import InputRefused
from bnn_deploy.tensorrt.metadata import (
    EngineMetadata,
    Installation,
    check_fits,
    differences,
    metadata_path,
    read_engine,
    write_engine,
)

HERE = Installation("tensorrt", "10.15", "12", "1", "8.6")


def test_round_trip(tmp_path: Path, plan: bytes, metadata: EngineMetadata) -> None:
    path = tmp_path / "new folder" / "x.engine"
    write_engine(path, plan, metadata)
    assert read_engine(path) == (plan, metadata)
    assert sorted(file.name for file in path.parent.iterdir()) == ["x.engine", "x.engine.json"]


def test_where_the_plan_cannot_be_written_the_old_engine_stays(
    tmp_path: Path, plan: bytes, metadata: EngineMetadata, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.engine"
    write_engine(path, plan, metadata)
    real = Path.write_bytes

    def full(file: Path, content: bytes) -> int:
        if content == b"new":
            raise OSError(28, os.strerror(28))
        return real(file, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputRefused, match=r"x\.engine: cannot be written: No space left on device"):
        write_engine(path, b"new", replace(metadata, engine_sha256="2"))
    assert read_engine(path) == (plan, metadata)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("missing", ["x.engine", "x.engine.json"])
def test_a_file_that_is_missing(missing: str, tmp_path: Path, plan: bytes, metadata: EngineMetadata) -> None:
    write_engine(tmp_path / "x.engine", plan, metadata)
    (tmp_path / missing).unlink()
    with pytest.raises(InputRefused, match=f"{missing}: no such file; wanted: an engine as `bnn-deploy engine`"):
        read_engine(tmp_path / "x.engine")


def test_a_plan_that_is_another(tmp_path: Path, plan: bytes, metadata: EngineMetadata) -> None:
    write_engine(tmp_path / "x.engine", plan[:-1], metadata)
    with pytest.raises(InputRefused, match=r"x\.engine: not the engine that x\.engine\.json describes; fix: build"):
        read_engine(tmp_path / "x.engine")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:-5], r"not JSON: .*fix: build the engine again"),
        (lambda text: "[]", r"something else, or a part is missing; wanted: metadata of format 1"),
        (lambda text: text.replace('"format": 1', '"format": 2'), r"format 2, or a part"),
        (lambda text: text.replace('"cuda"', '"kuda"'), r"format 1, or a part is missing"),
        (lambda text: json.dumps({**json.loads(text), "extra": 1}), r"format 1, or a part is missing"),
    ],
)
def test_damaged_metadata(change: Any, message: str, tmp_path: Path, plan: bytes, metadata: EngineMetadata) -> None:
    path = tmp_path / "x.engine"
    write_engine(path, plan, metadata)
    beside = metadata_path(path)
    beside.write_text(change(beside.read_text("utf-8")), "utf-8")
    with pytest.raises(InputRefused, match=message):
        read_engine(path)


@pytest.mark.parametrize(
    ("here", "message"),
    [
        (
            {"sdk": "tensorrt_rtx"},
            "built with tensorrt; wanted: an engine of tensorrt_rtx; fix: build the engine again",
        ),
        ({"sdk_version": "10.16"}, "built with tensorrt 10.15; wanted: one of 10.16; fix"),
        ({"plugin_version": "2"}, "built for version 1 of the plugins; wanted: version 2; fix"),
        (
            {"compute_capability": "9.0"},
            "built for a GPU of compute capability 8.6; wanted: 9.0, that of this one; fix",
        ),
    ],
)
def test_every_mismatch_has_its_message(here: dict[str, str], message: str, metadata: EngineMetadata) -> None:
    check_fits(Path("x.engine"), metadata, HERE)
    with pytest.raises(InputRefused, match=f"^x.engine: {message}"):
        check_fits(Path("x.engine"), metadata, replace(HERE, **here))


@pytest.mark.parametrize(
    ("built", "here"),
    [
        ({"version_compatible": True}, {"sdk_version": "11.0"}),
        ({"plugin_embedded": True}, {"plugin_version": "2"}),
        ({"plugin_version": ""}, {"plugin_version": "2"}),
        ({"compute_capability": ""}, {"compute_capability": "12.0"}),
        ({}, {"cuda": "13"}),
    ],
)
def test_what_runs_all_the_same(built: dict[str, Any], here: dict[str, str], metadata: EngineMetadata) -> None:
    check_fits(Path("x.engine"), replace(metadata, **built), replace(HERE, **here))


def test_another_cuda_may_be_why_it_does_not_load(metadata: EngineMetadata) -> None:
    assert differences(metadata, HERE) == ""
    assert differences(metadata, replace(HERE, cuda="")) == ""
    assert differences(metadata, replace(HERE, cuda="13")) == "it was built with CUDA 12, here is CUDA 13"
