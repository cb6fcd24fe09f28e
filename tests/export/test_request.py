from __future__ import annotations

import json
from dataclasses import fields

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
