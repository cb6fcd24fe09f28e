"""`bnn-deploy export`: from its options to the fields of a request."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Requests = list[tuple[dict[str, Any], bool]]


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Requests:
    """What would have been exported: the fields, and whether JSON was asked for."""
    made: Requests = []

    def record(fields: dict[str, Any], *, as_json: bool) -> int:
        made.append((fields, as_json))
        return 0

    monkeypatch.setattr("bnn_deploy.cli.export.run", record)
    return made


def test_defaults(cli: Callable[..., Any], requests: Requests, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    assert cli("export", "birealnet", "-o", out) == (0, "", "")
    assert requests == [
        (
            {
                "model": "birealnet",
                "out_dir": out,
                "checkpoint": None,
                "inputs": [],
                "kwargs": {},
                "sys_path": [],
                "prepare": None,
                "precision": "fp32",
                "dynamic": "batch",
                "sign_zero": "auto",
                "trust_checkpoint": False,
                "exporter": "dynamo",
                "seed": 0,
            },
            False,
        )
    ]


def test_every_option(cli: Callable[..., Any], requests: Requests, tmp_path: Path) -> None:
    checkpoint = tmp_path / "trained.pth.tar"
    checkpoint.touch()
    options = {
        "--out": str(tmp_path),
        "--checkpoint": str(checkpoint),
        "--kwargs": '{"num_classes": 10}',
        "--sys-path": str(tmp_path),
        "--prepare": "mine.tools:prepare",
        "--precision": "fp16",
        "--dynamic": "batch,spatial",
        "--sign-zero": "zero",
        "--exporter": "legacy",
        "--seed": "7",
    }
    words = [word for pair in options.items() for word in pair]
    inputs = ("--input", "1x3x32x32", "--input", "1x8")
    assert cli("export", "mine.py:make", *words, *inputs, "--trust-checkpoint", "--json").status == 0
    fields, as_json = requests[0]
    assert as_json
    assert fields == {
        "model": "mine.py:make",
        "out_dir": str(tmp_path),
        "checkpoint": str(checkpoint),
        "inputs": [[1, 3, 32, 32], [1, 8]],
        "kwargs": {"num_classes": 10},
        "sys_path": [str(tmp_path)],
        "prepare": "mine.tools:prepare",
        "precision": "fp16",
        "dynamic": "batch,spatial",
        "sign_zero": "zero",
        "trust_checkpoint": True,
        "exporter": "legacy",
        "seed": 7,
    }
    assert [type(value) for value in fields.values()] == [
        type(value) for value in json.loads(json.dumps(fields)).values()
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--input", "1x0x3"), "error: --input '1x0x3': not a shape"),
        (("--kwargs", "[]"), "error: --kwargs: JSON that is no object"),
        (("--dynamic", "depth"), "error: --dynamic 'depth': no such choice"),
        (("--prepare", "nothing"), "error: --prepare 'nothing': not the name of a function in a module"),
        (("--checkpoint", "no/such/file.pth"), "error: --checkpoint no/such/file.pth: no such file"),
        (("--sys-path", "no/such/folder"), "error: --sys-path no/such/folder: no such folder"),
    ],
)
def test_refused_option_is_one_line(
    options: tuple[str, ...], message: str, cli: Callable[..., Any], requests: Requests, tmp_path: Path
) -> None:
    outcome = cli("export", "birealnet", "-o", str(tmp_path), *options)
    assert outcome.status == 2
    assert outcome.out == ""
    assert outcome.err.startswith(message)
    assert outcome.err.count("\n") == 1
    assert requests == []


@pytest.mark.parametrize(
    "options",
    [
        ("--precision", "bf16"),
        ("--sign-zero", "two"),
        ("--exporter", "other"),
        ("--seed", "-1"),
        ("--seed", "one"),
        ("--checkpoint",),
        ("another-model",),
    ],
)
def test_choice_that_there_is_not(
    options: tuple[str, ...], cli: Callable[..., Any], requests: Requests, tmp_path: Path
) -> None:
    assert cli("export", "birealnet", "-o", str(tmp_path), *options).status == 2
    assert requests == []


def test_out_is_required(cli: Callable[..., Any], requests: Requests) -> None:
    outcome = cli("export", "birealnet")
    assert outcome.status == 2
    assert "--out" in outcome.err
    assert requests == []
