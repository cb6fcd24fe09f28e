"""Commands of a later version: they say so, whatever stands after them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bnn_deploy.cli.later import LATER_COMMANDS


@pytest.mark.parametrize("command", LATER_COMMANDS)
@pytest.mark.parametrize(
    "arguments", [(), ("build/birealnet",), ("model.onnx", "-o", "x.engine", "--fp16"), ("--runner=tensorrt", "a", "b")]
)
def test_says_so_and_ends_with_status_2(command: str, arguments: tuple[str, ...], cli: Callable[..., Any]) -> None:
    outcome = cli(command, *arguments)
    assert outcome.status == 2
    assert outcome.out == ""
    assert outcome.err.startswith(f"error: bnn-deploy {command}: not in this version of bnn_deploy; fix: ")
    assert outcome.err.count("\n") == 1


@pytest.mark.parametrize("command", LATER_COMMANDS)
def test_help_says_later(command: str, cli: Callable[..., Any]) -> None:
    assert "a later version" in cli(command, "--help").out
