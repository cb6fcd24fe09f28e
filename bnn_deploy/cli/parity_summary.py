"""What `bnn-deploy parity` prints: a table of every case and runner, PyTorch's own spread, and what failed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bnn_deploy.cli.accuracy_summary import full_accuracy_lines
from bnn_deploy.cli.output import table_lines

COLUMNS = (
    *("inputs", "samples", "runner", "accumulators differ", "words differ", "of the bound", "flips", "ties"),
    *("outputs within", "verdict"),
)
NUMBERS = COLUMNS[1:2] + COLUMNS[3:9]
SHOWN_FAILURES = 10


def summary(report: Mapping[str, Any], folder: str) -> list[str]:
    """The lines, from `parity.json` and the folder that it is in."""
    rows = [_row(case, name, result) for case in report["cases"] for name, result in case["runners"].items()]
    verdict = "passed" if report["passed"] else f"FAILED, {len(report['failures'])} failures"
    lines = [f"{report['file']} against {report['model']} ({report['precision']}): {verdict}", ""]
    lines += table_lines(COLUMNS, rows, right=NUMBERS)
    reasons = dict.fromkeys(reason for case in report["cases"] for reason in case["unproven"])
    lines += [f"rounding bound not proven throughout: {reason}" for reason in reasons]
    lines += _spread_lines(report)
    lines += _accuracy_lines(report)
    if report["failures"]:
        lines += ["", *report["failures"][:SHOWN_FAILURES]]
        more = len(report["failures"]) - SHOWN_FAILURES
        lines += [f"... and {more} more"] if more > 0 else []
    return [*lines, "", f"{folder}/parity.json has every layer"]


def _row(case: Mapping[str, Any], name: str, result: Mapping[str, Any]) -> dict[str, str]:
    layers, binarizations = result["layers"], result["binarizations"]
    judged = [entry["bound_used"] for entry in (*layers, *binarizations) if entry["bound_used"] is not None]
    words = sum(entry["packed_mismatches"] for entry in (*binarizations, *result["probes"]))
    free = result["free_run"]
    by_reference = free is None
    return {
        "inputs": case["case"],
        "samples": str(case["samples"] or ""),
        "runner": name,
        "accumulators differ": f"{result['accumulator_mismatches']:,} of {result['accumulators']:,}" if layers else "",
        "words differ": "" if by_reference and not result["probes"] else f"{words:,}",
        "of the bound": f"{max(judged):.1%}" if judged and not by_reference else "",
        "flips": "" if by_reference else f"{result['sign_flips']:,}",
        "ties": "" if by_reference else f"{result['ties']:,}",
        "outputs within": "" if by_reference else _number(free["max_abs_error"]),
        "verdict": "passed" if result["passed"] else "FAILED",
    }


def _spread_lines(report: Mapping[str, Any]) -> list[str]:
    """PyTorch against itself, beside the runners: on the same inputs, running freely."""
    lines: list[str] = []
    for case in report["cases"]:
        if case["spread"] is None:
            continue
        ways = {f"PyTorch, {name}": run for name, run in case["spread"].items()}
        ways |= {name: result["free_run"] for name, result in case["runners"].items() if result["free_run"]}
        columns = ("running freely", "flips", "outputs within", "same class", "parts at")
        rows = [
            {
                "running freely": name,
                "flips": f"{run['sign_flips']:,}",
                "outputs within": _number(run["max_abs_error"]),
                "same class": "" if run["argmax_agreement"] is None else f"{run['argmax_agreement']:.1%}",
                "parts at": run["first_divergence"] or "",
            }
            for name, run in ways.items()
        ]
        lines += ["", f"PyTorch against itself, and the runners, on {case['case']}"]
        lines += table_lines(columns, rows, right=columns[1:4])
    return lines


def _accuracy_lines(report: Mapping[str, Any]) -> list[str]:
    return [] if report["accuracy"] is None else ["", *full_accuracy_lines(report["accuracy"], "images")]


def _number(value: float | None) -> str:
    return "inf" if value is None else f"{value:.2g}"
