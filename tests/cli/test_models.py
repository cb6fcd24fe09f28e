"""`bnn-deploy models`: the zoo as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from bnn_deploy.cli.models import COLUMNS, row
from bnn_deploy.models import catalogue

DESCRIPTION = {
    "name": "net",
    "input_shape": (3, 224, 224),
    "parameters": 11_699_112,
    "binary_parameters": 10_985_472,
    "one_bit_share": 0.939,
    "weights": None,
    "source": "a paper",
    "description": "a line",
}


def test_row() -> None:
    assert row(DESCRIPTION) == {
        "name": "net",
        "input": "3x224x224",
        "parameters": "11,699,112",
        "1-bit": "93.9%",
        "trained weights": "",
        "source": "a paper",
    }
    assert row({**DESCRIPTION, "weights": "net.safetensors"})["trained weights"] == "shipped"


def test_table_has_every_model_in_order(cli: Callable[..., Any]) -> None:
    outcome = cli("models")
    assert (outcome.status, outcome.err) == (0, "")
    lines = [line for line in outcome.out.splitlines() if line.strip()]
    assert all(column in lines[0] for column in COLUMNS)
    assert [line.split()[0] for line in lines[2:]] == list(catalogue())


def test_json(cli: Callable[..., Any]) -> None:
    outcome = cli("models", "--json")
    assert (outcome.status, outcome.err) == (0, "")
    listed = json.loads(outcome.out)
    assert [entry["name"] for entry in listed] == list(catalogue())
    assert all(0 < entry["one_bit_share"] < 1 for entry in listed)
    assert {entry["name"] for entry in listed if entry["weights"]} == {"birealnet", "vgg_small", "nin"}
