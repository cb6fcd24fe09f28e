"""What the process that runs user code leaves for the one that started it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bnn_deploy.errors import CheckFailed, InputRefused
from bnn_deploy.export.worker import OUTCOME, REQUEST, STAGE, Job, serve


def outcome(folder: Path, job: Job) -> Any:
    (folder / REQUEST).write_text('{"a": 1}')
    assert serve(folder, job) == 0
    return json.loads((folder / OUTCOME).read_text())


def test_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def job(request: Any, folder: Path, progress: Any) -> Any:
        progress("working")
        return {"asked": request, "in": str(folder)}

    assert outcome(tmp_path, job) == {"report": {"asked": {"a": 1}, "in": str(tmp_path)}, "error": None}
    assert (tmp_path / STAGE).read_text() == "working"
    found = capsys.readouterr()
    assert found.out == "" and found.err.endswith("s] working\n")


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (InputRefused("here", "this", "that", "so"), "refused", "here"),
        (CheckFailed("not good"), "failed", "not good"),
        (ZeroDivisionError("ours"), "internal", "Traceback"),
    ],
)
def test_an_error(error: Exception, kind: str, text: str, tmp_path: Path) -> None:
    def job(*_: object) -> Any:
        raise error

    found = outcome(tmp_path, job)
    assert found["report"] is None and found["error"]["kind"] == kind
    assert text in json.dumps(found["error"])
