"""`bnn-deploy verify`: a table or JSON, the first layer that differs, exit status 0, 1 or 2; and no PyTorch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper

from bnn_deploy.runners.catalogue import exported_runners

Cli = Callable[..., Any]
Deployed = Callable[..., Any]
Golden = Callable[..., Path]


def flipped(given: Any) -> Any:
    """A copy of the file with one weight bit of the layer `second` the other way."""
    model = given.proto()
    node = next(node for node in model.graph.node if node.name == "second")
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == node.input[1])
    words = numpy_helper.to_array(tensor).copy()
    words[3].flat[0] ^= 1
    tensor.CopyFrom(numpy_helper.from_array(words, tensor.name))
    return model


def test_a_good_file(deployed: Deployed, golden: Golden, cli: Cli) -> None:
    folder = golden(deployed("Residual"))
    status, out, err = cli("verify", str(folder), "--runner", "onnxruntime", "--runner", "reference")
    assert (status, err) == (0, "")
    head, columns, rule, *rows = out.splitlines()
    assert head == f"{folder}: a test (written with x 1)"
    assert columns.split()[:3] == ["runner", "inputs", "samples"] and set(rule) == {"-", " "}
    assert [row.split()[0] for row in rows] == ["onnxruntime", "reference"]
    for row in rows:
        assert row.split()[1:10] == ["samples", "6", "0", "of", "4,080", "0", "of", "6,528", "0"]
        assert row.endswith("passed")


def test_runners_by_default_are_those_of_an_export(deployed: Deployed, golden: Golden, cli: Cli) -> None:
    report = json.loads(cli("verify", str(golden(deployed("Residual"))), "--json").out)
    assert report["passed"] and list(report["runners"]) == exported_runners()


def test_the_first_layer_that_differs(deployed: Deployed, golden: Golden, cli: Cli) -> None:
    given = deployed("Residual")
    folder = golden(given, flipped(given))
    status, out, err = cli("verify", str(folder), "--runner", "onnxruntime")
    assert (status, err) == (1, "")
    _, _, _, row, first, *_ = out.splitlines()
    assert row.endswith("FAILED")
    assert first.startswith("onnxruntime, samples: second: ")
    assert " of 816 accumulators differ, the first at n 0, channel 3, row " in first

    status, out, err = cli("verify", str(folder), "--runner", "onnxruntime", "--json")
    assert (status, err) == (1, "")
    report = json.loads(out)
    assert (report["passed"], report["bundle"], report["versions"]) == (False, str(folder), {"x": "1"})
    (result,) = report["runners"]["onnxruntime"]
    difference = result["first_difference"]
    assert (difference["layer"], difference["what"], difference["elements"]) == ("second", "accumulators", 816)
    assert difference["count"] == result["accumulator_mismatches"] > 0
    for place in difference["places"]:
        assert place["index"][1] == 3 and abs(place["expected"] - place["found"]) == 2
    assert report["failures"][0] == first


def test_another_file(deployed: Deployed, golden: Golden, cli: Cli, tmp_path: Path) -> None:
    given = deployed("Residual")
    folder = golden(given)
    (tmp_path / "other.onnx").write_bytes(flipped(given).SerializeToString())
    arguments = ("verify", str(folder), "--runner", "onnxruntime", "--model")
    assert cli(*arguments, str(given.path)).status == 0
    assert cli(*arguments, str(tmp_path / "other.onnx")).status == 1
    outcome = cli(*arguments, str(tmp_path / "none.onnx"))
    assert outcome.status == 2 and outcome.err.startswith(f"error: {tmp_path}/none.onnx: no such file")


def test_many_failures_are_cut_short(deployed: Deployed, golden: Golden, cli: Cli) -> None:
    folder = golden(deployed("Residual"))
    other = str(deployed("Ternary").path)
    _, out, _ = cli("verify", str(folder), "--runner", "onnxruntime", "--model", other)
    assert out.splitlines()[-1] == "onnxruntime, samples: and 1 more; --json has all"
    assert "the bundle does not have" in out


@pytest.mark.parametrize("broken", ["byte", "file", "version", "folder"])
def test_a_broken_bundle_is_one_line(broken: str, deployed: Deployed, golden: Golden, cli: Cli) -> None:
    folder = golden(deployed("Residual"))
    path = folder / "expected.npz"
    if broken == "byte":
        content = bytearray(path.read_bytes())
        content[100] ^= 4
        path.write_bytes(content)
    elif broken == "file":
        path.unlink()
    elif broken == "version":
        path = folder / "manifest.json"
        path.write_text(path.read_text().replace('"format_version": 1', '"format_version": 2'))
    else:
        folder = path = folder / "nothing"
    status, out, err = cli("verify", str(folder))
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {path}: ") and err.count("\n") == 1 and "Traceback" not in err


WITHOUT_TORCH = """
import sys

class Blocked:
    def find_spec(self, name, *rest):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
from bnn_deploy.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def test_runs_where_there_is_no_torch(deployed: Deployed, golden: Golden) -> None:
    given = deployed("Fused")
    runners = [part for name in [*exported_runners(), "reference"] for part in ("--runner", name)]
    good = [sys.executable, "-c", WITHOUT_TORCH, "verify", str(golden(given)), *runners]
    answer = subprocess.run(good, capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout.count("passed") == len(runners) // 2
    blocked = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH.replace("main(sys.argv[1:])", "__import__('torch')")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "No module named 'torch'" in blocked.stderr


def test_numbers_that_json_lacks(deployed: Deployed, golden: Golden, cli: Cli, tmp_path: Path) -> None:
    given = deployed("Residual")
    model = given.proto()
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "head.bias")
    tensor.CopyFrom(numpy_helper.from_array(np.full(5, np.nan, np.float32), tensor.name))

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    status, out, _ = cli("verify", str(golden(given, model)), "--runner", "onnxruntime", "--json")
    assert status == 1
    assert json.loads(out, parse_constant=refuse)["runners"]["onnxruntime"][0]["max_abs_error"] is None


def test_an_unknown_runner(deployed: Deployed, golden: Golden, cli: Cli) -> None:
    status, out, err = cli("verify", str(golden(deployed("Residual"))), "--runner", "abacus")
    assert (status, out) == (2, "") and err.startswith("error: runner 'abacus': no such runner; wanted: one of ")
