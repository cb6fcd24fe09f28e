"""The process that user code runs in: it reads a request from a folder, does it, and writes the outcome there.

`export.supervise` is the process that starts it and reads the outcome, whatever becomes of this one.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bnn_deploy.errors import BnnDeployError, InputRefused
from bnn_deploy.files import write_atomically

REQUEST, OUTCOME, STAGE = "request.json", "outcome.json", "stage.txt"

Progress = Callable[[str], None]
Job = Callable[[dict[str, Any], Path, Progress], dict[str, Any]]


def serve(folder: Path, job: Job) -> int:
    """Does one job.

    Args:
        folder: Holds the request; gets the outcome, and the name of the stage that the job is in.
        job: (request, folder, progress) -> report. `progress` takes the name of each stage as it begins.

    Returns:
        0, whatever the outcome says.
    """
    started = time.monotonic()

    def progress(stage: str) -> None:
        (folder / STAGE).write_text(stage)
        print(f"[{time.monotonic() - started:5.1f} s] {stage}", file=sys.stderr, flush=True)

    request = json.loads((folder / REQUEST).read_text())
    outcome: dict[str, Any] = {"report": None, "error": None}
    try:
        outcome["report"] = job(request, folder, progress)
    except InputRefused as error:
        outcome["error"] = {
            "kind": "refused",
            **{key: getattr(error, key) for key in ("where", "found", "wanted", "fix")},
        }
    except BnnDeployError as error:
        outcome["error"] = {"kind": "failed", "message": str(error)}
    except Exception:
        outcome["error"] = {"kind": "internal", "message": traceback.format_exc()}
    write_atomically(folder / OUTCOME, json.dumps(outcome).encode())
    return 0
