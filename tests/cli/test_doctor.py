"""`bnn-deploy doctor`: how findings are shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from bnn_deploy.cli.doctor import NOT_READY, READY, lines
from bnn_deploy.doctor import Finding, State

PYTHON = Finding("python", State.OK, "3.11.7", required=True)
NO_TORCH = Finding("torch", State.MISSING, required=True, cost="no export", fix="pip install torch")
OLD_ONNX = Finding("onnx", State.PROBLEM, "1.2, 1.18 or later is needed", True, "no export", "pip install onnx")
NO_GPU = Finding("NVIDIA GPU", State.MISSING, cost="the CPU only", fix="install the driver")


def test_lines_say_the_cost_and_what_to_do() -> None:
    assert list(lines([PYTHON, NO_TORCH, OLD_ONNX, NO_GPU])) == [
        "ok       python      3.11.7",
        "needed   torch",
        "                     costs: no export",
        "                     to do: pip install torch",
        "needed   onnx        1.2, 1.18 or later is needed",
        "                     costs: no export",
        "                     to do: pip install onnx",
        "missing  NVIDIA GPU",
        "                     costs: the CPU only",
        "                     to do: install the driver",
    ]


@pytest.mark.parametrize(
    ("findings", "status", "verdict"), [([PYTHON, NO_GPU], 0, READY), ([PYTHON, NO_TORCH, NO_GPU], 1, NOT_READY)]
)
def test_status_and_verdict(
    findings: list[Finding], status: int, verdict: str, monkeypatch: pytest.MonkeyPatch, cli: Callable[..., Any]
) -> None:
    monkeypatch.setattr("bnn_deploy.cli.doctor.examine", lambda: findings)
    outcome = cli("doctor")
    assert (outcome.status, outcome.err) == (status, "")
    assert outcome.out.splitlines()[-1] == verdict

    outcome = cli("doctor", "--json")
    document = json.loads(outcome.out)
    assert (outcome.status, document["ready"]) == (status, status == 0)
    assert [finding["name"] for finding in document["findings"]] == [finding.name for finding in findings]


def test_this_machine_is_ready(cli: Callable[..., Any]) -> None:
    assert cli("doctor").status == 0
