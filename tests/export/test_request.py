from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest

from bnn_deploy.export.request import ExportRequest


def test_a_request_survives_json() -> None:
    request = ExportRequest(
        model="mine.py:make",
        out_dir="build/mine",
        checkpoint="trained.pth",
        inputs=[[1, 3, 32, 32], [1, 8]],
        kwargs={"width": 0.5, "stages": [2, 2], "name": "é"},
        sys_path=["src"],
        prepare="mine:prepare",
        dynamic="none",
        sign_zero="one",
        trust_checkpoint=True,
        exporter="legacy",
        seed=7,
    )
    assert ExportRequest(**json.loads(json.dumps(request.to_json()))) == request
    assert set(request.to_json()) == {field.name for field in fields(ExportRequest)}


def test_requests_share_no_defaults() -> None:
    one, other = ExportRequest("a", "b"), ExportRequest("a", "b")
    one.inputs.append([1])
    one.kwargs["width"] = 1
    one.sys_path.append("src")
    assert (other.inputs, other.kwargs, other.sys_path) == ([], {}, [])
    assert (other.dynamic, other.sign_zero, other.exporter, other.precision) == ("batch", "auto", "dynamo", "fp32")


def test_located_paths_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    request = ExportRequest("nets/a.py:make", "out", checkpoint="w.pt", sys_path=["lib"], prepare="p.py:f").located()
    assert request.model == f"{tmp_path}/nets/a.py:make" and request.prepare == f"{tmp_path}/p.py:f"
    assert (request.out_dir, request.checkpoint) == (f"{tmp_path}/out", f"{tmp_path}/w.pt")
    assert request.sys_path == [f"{tmp_path}/lib"]
    for name in ("birealnet", "package.module:make"):
        assert ExportRequest(name, "out", prepare="package.module:f").located().model == name
