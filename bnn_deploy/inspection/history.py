"""What `bnn-deploy export` noted down beside a file: what it was before, and what each pass did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bnn_deploy.inspection.results import ExportHistory, GraphTotals, PassRow

REPORT = "report.json"


def read_history(path: Path) -> ExportHistory | None:
    """The history of the ONNX file `path`; None where no report of it lies beside it.

    A report that speaks of a file of another size is of another export, and not believed.
    """
    try:
        report = json.loads((path.parent / REPORT).read_text("utf-8"))
        if report["file_bytes"] != path.stat().st_size:
            return None
        return _history(report)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _history(report: dict[str, Any]) -> ExportHistory:
    passes = tuple(
        PassRow(
            record["name"],
            record["changes"],
            tuple((entry["layer"], entry["reason"]) for entry in record["declined"]),
        )
        for record in report["passes"]
    )
    return ExportHistory(report["model"], report["float_bytes"], GraphTotals(**report["before"]), passes)
