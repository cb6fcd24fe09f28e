"""`bnn-deploy inspect`: a row a layer, what they add up to, or all of it as JSON."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from bnn_deploy.cli.inspect import COLUMNS, totals
from bnn_deploy.inspection import inspect_file

Cli = Callable[..., Any]


def rows(out: str) -> dict[str, dict[str, str]]:
    """Layer -> column -> text; a column begins where its heading does, or ends where it ends."""
    heading, rule, *lines = out.splitlines()
    assert set(rule) == {"-", " "}
    edges = [0]
    for width in map(len, rule.split("  ")):
        edges.append(edges[-1] + width + 2)
    found = {}
    for line in lines:
        cells = [line[begin:end].strip() for begin, end in zip(edges, [*edges[1:-1], None], strict=False)]
        found[cells[0]] = dict(zip(COLUMNS, cells, strict=False))
    assert [heading[begin:end].strip() for begin, end in zip(edges, [*edges[1:-1], None], strict=False)] == [*COLUMNS]
    return found


@pytest.mark.parametrize("as_folder", [False, True])
def test_a_row_a_layer(as_folder: bool, deployed: Callable[..., Any], cli: Cli, tmp_path: Path) -> None:
    given = deployed("Assorted")
    shutil.copy(given.path, tmp_path / "model.onnx")
    status, out, err = cli("inspect", str(tmp_path if as_folder else given.path))
    assert (status, err) == (0, "")
    table = rows(out.split("\n\n")[0])
    assert list(table) == ["grouped", "tall", "weights_only", "float_weights", "fc"]
    grouped, fc = table["grouped"], table["fc"]
    # 4 channels in 2 groups, dilated by 2 with padding 2: the size stays 9 x 8.
    assert (grouped["weight"], grouped["1-bit"], grouped["activations"]) == ("34x2x3x3", "yes", "bipolar")
    assert (grouped["bytes"], grouped["MACs"]) == ("1,224", f"{34 * 2 * 9 * 72:,}")
    assert (fc["kind"], fc["weight"], fc["1-bit"], fc["MACs"], fc["bytes"]) == ("linear", "3x175", "yes", "525", "72")
    assert table["weights_only"]["1-bit"] == "weights" and table["weights_only"]["activations"] == "float"
    assert "nothing binarises its input" in table["weights_only"]["why not 1-bit"]
    assert table["float_weights"]["1-bit"] == "no" and table["float_weights"]["bytes"] == "100"
    assert table["float_weights"]["why not 1-bit"] == "a float layer of the model"
    assert grouped["why not 1-bit"] == ""


def test_totals(deployed: Callable[..., Any], cli: Cli) -> None:
    given = deployed("Assorted")
    found = inspect_file(given.path)
    first, second, third = cli("inspect", str(given.path)).out.split("\n\n")[1].splitlines()
    assert [first, second, third] == totals(found)
    assert first.startswith("3 of 5 layers are 1-bit, ")
    assert f"of {found.total_macs:,} multiply-accumulates an image" in first
    assert second.startswith(f"{given.path.stat().st_size:,} bytes, fp32: ")
    assert "of 1-bit weights" in second and "float_weights.weight 100" in second
    assert third.startswith(f"{len(found.nodes)} nodes, {found.graph.kernels} of them kernels, which write ")


def test_json(deployed: Callable[..., Any], cli: Cli) -> None:
    given = deployed("Ternary")
    status, out, err = cli("inspect", str(given.path), "--json")
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert found["file_bytes"] == given.path.stat().st_size and found["opset"] == 20
    assert [layer["name"] for layer in found["layers"]] == ["conv", "fc"]
    for layer in found["layers"]:
        assert set(layer) >= {
            "name",
            "kind",
            "binary",
            "reason",
            "levels",
            "shape",
            "macs",
            "weight_bits",
            "scale",
            "padding",
        }
        assert (layer["binary"], layer["levels"], layer["weight_bits"], layer["reason"]) == (True, "ternary", 1, None)
    assert found["layers"][0]["macs"] == 6 * 4 * 9 * 25 and found["layers"][0]["padding"]["pads"] == [1, 1, 1, 1]
    assert found["binary_macs"] == found["total_macs"]


def test_a_float_network(networks: ModuleType, cli: Cli, tmp_path: Path) -> None:
    """Any ONNX file may be looked at. The float twin of a binary network is recognised for what it is."""
    from bnn_deploy.export import export_onnx

    model = networks.make("Residual")
    twin = tmp_path / "float.onnx"
    export_onnx(model, torch.zeros(model.shapes[0]), tmp_path / "m.onnx", float_path=twin, exporter="legacy")
    status, out, _ = cli("inspect", str(twin))
    assert status == 0
    assert out.split("\n\n")[1].startswith("0 of 4 layers are 1-bit, 0.0% of ")
    first = next(line for line in out.splitlines() if line.startswith("first"))
    assert "make it a BinaryConv2d" in first
