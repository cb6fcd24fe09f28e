"""`bnn-deploy inspect` with a page, with the passes, and beside a report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from bnn_deploy.inspection import GraphTotals, inspect_file

Cli = Callable[..., Any]


@pytest.fixture
def folder(deployed: Callable[..., Any], tmp_path: Path) -> Path:
    """As `export` leaves it: a model, and the parts of a report that are read."""
    path = shutil.copy(deployed("Residual").path, tmp_path / "model.onnx")
    report = {
        "model": "some network",
        "file_bytes": path.stat().st_size,
        "float_bytes": 10 * path.stat().st_size,
        "before": asdict(GraphTotals(12, 11, 5000, {"Conv": 12})),
        "passes": [
            {"name": "FoldPass", "changes": 3, "declined": []},
            {"name": "FusePass", "changes": 0, "declined": [{"layer": "first", "reason": "it could not"}]},
        ],
    }
    (tmp_path / "report.json").write_text(json.dumps(report))
    return tmp_path


def test_writes_one_page(folder: Path, cli: Cli) -> None:
    page = folder / "new" / "page.html"
    status, out, err = cli("inspect", str(folder), "--html", str(page))
    assert (status, err) == (0, "")
    assert "of 4 layers are 1-bit" in out
    text = page.read_text("utf-8")
    assert text.startswith("<!doctype html>") and "some network" in text and "FoldPass" in text
    assert list(page.parent.iterdir()) == [page]


def test_a_folder_is_no_page(folder: Path, cli: Cli) -> None:
    status, _, err = cli("inspect", str(folder), "--html", str(folder))
    assert status == 2 and "inspect.html" in err


def test_passes(folder: Path, cli: Cli) -> None:
    out = cli("inspect", str(folder), "--passes").out.split("\n\n")[-1].splitlines()
    assert [line.split()[:2] for line in out[2:]] == [["FoldPass", "3"], ["FusePass", "0"]]
    assert out[3].endswith("first: it could not")
    assert "FoldPass" not in cli("inspect", str(folder)).out


def test_passes_without_a_report_are_refused(deployed: Callable[..., Any], cli: Cli) -> None:
    status, out, err = cli("inspect", str(deployed("Residual").path), "--passes")
    assert (status, out) == (2, "") and "no report of this file lies beside it" in err


def test_the_float_twin_stands_beside_the_totals(folder: Path, cli: Cli) -> None:
    out = cli("inspect", str(folder)).out
    assert "bytes (10.0x), 12 nodes, 11 of them kernels, which write 5,000 bytes of activations an image" in out


def test_advice_is_told_once_with_all_its_layers(folder: Path, cli: Cli) -> None:
    lines = cli("inspect", str(folder)).out.split("\n\n")[2].splitlines()
    found = inspect_file(folder / "model.onnx")
    assert {line.split(":")[0] for line in lines} == {"stem", "head"}
    assert all(layer.advice in line for line in lines for layer in found.layers if line.startswith(f"{layer.name}:"))


def test_json_has_all_of_it(folder: Path, cli: Cli) -> None:
    found = json.loads(cli("inspect", str(folder), "--json").out)
    assert len(found["nodes"]) == found["graph"]["nodes"]
    assert found["graph"]["activation_bytes"] == sum(node["written_bytes"] for node in found["nodes"])
    assert found["export"]["before"]["nodes"] == 12
    assert [record["name"] for record in found["export"]["passes"]] == ["FoldPass", "FusePass"]
    assert found["binary_macs"] + found["float_macs"] == found["total_macs"]
    assert found["inputs"]["x"]["shape"] == [1, 3, 4, 4]


def test_json_without_a_report(deployed: Callable[..., Any], cli: Cli) -> None:
    assert json.loads(cli("inspect", str(deployed("Residual").path), "--json").out)["export"] is None
