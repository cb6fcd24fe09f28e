"""Runs an export, or whatever else runs user code, in a process of its own and reports how it ended.

A model is user code, and user code can take a process down in ways that no `except` sees: a crash in a native library,
`os._exit`, the kernel's out-of-memory killer. The process that the user started survives all of them and says what
happened, and nothing that the other one had half-written is left.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bnn_deploy.errors import BnnDeployError, CheckFailed, InputRefused
from bnn_deploy.export.request import ExportRequest
from bnn_deploy.export.worker import OUTCOME, REQUEST, STAGE

WORKER = "bnn_deploy.pipeline"
MODEL, REPORT, FAILED_REPORT = "model.onnx", "report.json", "report.failed.json"


def run_export(request: ExportRequest, *, worker: str = WORKER) -> dict[str, Any]:
    """Exports, checks, and puts the result in `request.out_dir`.

    Args:
        request: What to do.
        worker: The module that does it, run as `python -m worker FOLDER`.

    Returns:
        The report, as in `report.json`.

    Raises:
        InputRefused: The input cannot be exported, or took the process down. The folder is as it was before.
        CheckFailed: The file was made and is not the PyTorch model's. No model is left in the folder, only
            `report.failed.json`.
    """
    out = Path(request.out_dir)
    created = _first_missing(out)
    out.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".export-", dir=out))
    succeeded = False
    try:
        report = run_worker(worker, request.to_json(), work, subject=request.model)
        _keep(work, out, passed=report["passed"])
        succeeded = True
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if not succeeded and created is not None:
            shutil.rmtree(created, ignore_errors=True)
    if not report["passed"]:
        raise CheckFailed(
            f"{request.model}: the exported file is not the PyTorch model: {'; '.join(report['failures'][:3])}; "
            f"details: {out / FAILED_REPORT}"
        )
    return report


def run_worker(worker: str, request: Mapping[str, Any], work: Path, *, subject: str) -> dict[str, Any]:
    """Runs `python -m worker WORK` and returns what it reports; `export.worker` is the other half.

    Args:
        worker: The module.
        request: What to do, as JSON.
        work: A folder of the caller's, who also removes it.
        subject: What messages are about, for example the model.

    Raises:
        InputRefused: The worker refused the input, or the input took the process down.
        CheckFailed: It says so.
    """
    (work / REQUEST).write_text(json.dumps(request))
    outcome = _run_process(worker, work, subject)
    _raise_refusal(outcome)
    report: dict[str, Any] = outcome["report"]
    return report


def _run_process(worker: str, work: Path, subject: str) -> dict[str, Any]:
    # What user code prints goes to stderr, so that stdout holds the result alone.
    process = subprocess.run(
        [sys.executable, "-m", worker, str(work)], stdin=subprocess.DEVNULL, stdout=_diagnostics(), check=False
    )
    outcome = work / OUTCOME
    if outcome.is_file():
        content: dict[str, Any] = json.loads(outcome.read_text())
        return content
    stage = (work / STAGE).read_text() if (work / STAGE).is_file() else "starting"
    raise InputRefused(
        subject,
        f"the process that ran it {_how_it_ended(process.returncode)} (while {stage})",
        "model code that returns or raises",
        _what_to_try(process.returncode),
    )


def _diagnostics() -> int:
    """The file descriptor of stderr. Where a notebook or a test has put an object without one in its place: 2."""
    try:
        return sys.stderr.fileno()
    except (AttributeError, OSError):
        return 2


def _how_it_ended(status: int) -> str:
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with status {status} and no result"


def _what_to_try(status: int) -> str:
    if status == -signal.SIGKILL:
        return "most often the memory ran out: try a smaller --input, or a machine with more"
    return (
        "run the model's forward in Python on its own; look for os._exit, sys.exit or a native extension that crashes"
    )


def _raise_refusal(outcome: Mapping[str, Any]) -> None:
    error = outcome.get("error")
    if error is None:
        return
    if error["kind"] == "refused":
        raise InputRefused(error["where"], error["found"], error["wanted"], error["fix"])
    if error["kind"] == "failed":
        raise CheckFailed(error["message"])
    raise BnnDeployError(f"internal error; please report it with this trace:\n{error['message']}")


def _keep(work: Path, out: Path, *, passed: bool) -> None:
    """Moves the results into place; on failure also takes away an older model, which is not this one either."""
    if passed:
        (out / FAILED_REPORT).unlink(missing_ok=True)
        for name in (MODEL, REPORT):
            (work / name).replace(out / name)
        return
    for name in (MODEL, REPORT):
        (out / name).unlink(missing_ok=True)
    (work / REPORT).replace(out / FAILED_REPORT)


def _first_missing(folder: Path) -> Path | None:
    """The outermost folder that making `folder` would create."""
    missing = None
    for candidate in (folder, *folder.parents):
        if candidate.exists():
            return missing
        missing = candidate
    return missing
