"""The script beside a reduced case: it stands alone, and its exit status says whether the failure is there."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from bnn_deploy import reproduce
from bnn_deploy.reproduce import CARE, differing, main

STOCK = {"optimise": True, "library": False, "provider": "CPUExecutionProvider"}


@pytest.fixture
def case(tmp_path: Path) -> Path:
    """y = x + x, expected to be 2 x."""
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "g", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.save(model, str(tmp_path / "case.onnx"))
    np.savez(tmp_path / "inputs.npz", x=np.array([1, 2], np.float32))
    expect(tmp_path, [2, 4])
    return tmp_path


def expect(folder: Path, y: list[float], tolerance: float = 0.0, **session: Any) -> None:
    np.savez(folder / "expected.npz", y=np.array(y, np.float32))
    case = {
        "summary": "Add is wrong",
        "runner": "native-cpu",
        "session": STOCK | session,
        "tolerances": {"y": tolerance},
    }
    (folder / "case.json").write_text(json.dumps(case))


def test_gone_and_there(case: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(case)]) == 0
    assert "Add is wrong" in (out := capsys.readouterr().out) and "the failure is gone" in out
    expect(case, [2, 5])
    assert main([str(case)]) == 1
    out = capsys.readouterr().out
    assert "y: 1 of 2 elements differ" in out and "[1]: expected 5.0, found 4.0" in out and "failure is there" in out
    expect(case, [2, 5], tolerance=1.0)
    assert main([str(case)]) == 0


@pytest.mark.parametrize("optimise", [True, False])
def test_runs_on_its_own(case: Path, optimise: bool) -> None:
    """As a copy in the folder, in a process that finds nothing of this project."""
    expect(case, [2, 5], optimise=optimise)
    script = case / "reproduce.py"
    script.write_text(Path(reproduce.__file__).read_text("utf-8"))
    answer = subprocess.run([sys.executable, "-P", str(script)], capture_output=True, text=True, cwd="/")
    assert (answer.returncode, answer.stderr) == (1, "")


def test_needs_numpy_and_onnxruntime_alone() -> None:
    tree = ast.walk(ast.parse(Path(reproduce.__file__).read_text("utf-8")))
    names = {alias.name for node in tree if isinstance(node, ast.Import) for alias in node.names}
    tree = ast.walk(ast.parse(Path(reproduce.__file__).read_text("utf-8")))
    names |= {node.module or "" for node in tree if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) == {"numpy", "onnxruntime"}


def test_asks_for_the_library(case: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expect(case, [2, 4], library=True)
    assert main([str(case)]) == 2
    assert "--library" in capsys.readouterr().err


def test_another_shape_and_another_runner(case: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(case)], lambda feeds: {"y": feeds["x"][:1]}) == 1
    assert "shape (1,), expected (2,)" in capsys.readouterr().out
    assert main([str(case)], lambda feeds: {"y": 2 * feeds["x"]}) == 0


def test_what_does_not_run_fails(case: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (case / "case.onnx").write_bytes(b"not a model")
    assert main([str(case)]) == 1
    assert "it does not run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("expected", "found", "tolerance", "wanted"),
    [
        ([1.0, 2.0], [1.0, 2.5], 0.0, [False, True]),
        ([1.0, 2.0], [1.0, 2.5], 0.5, [False, False]),
        ([np.nan, np.inf, -np.inf], [np.nan, np.inf, np.inf], 1e9, [False, False, True]),
        ([np.nan, 1.0, np.inf], [1.0, np.nan, 3.0], 1e9, [True, True, True]),
        ([0.0], [-0.0], 0.0, [False]),
    ],
)
def test_floats(expected: list[float], found: list[float], tolerance: float, wanted: list[bool]) -> None:
    np.testing.assert_array_equal(differing(np.array(expected), np.array(found), tolerance), wanted)


def test_bits_and_values_that_do_not_count() -> None:
    words, other = np.array([0b1010, -1], np.int32), np.array([0b1000, -1], np.int32)
    np.testing.assert_array_equal(differing(words, other, 0.0), [True, False])
    np.testing.assert_array_equal(differing(words, other, 0.0, np.array([~0b0010, -1], np.int32)), [False, False])
    floats = np.array([1.0, 2.0])
    np.testing.assert_array_equal(differing(floats, floats + 1, 0.0, np.array([True, False])), [True, False])
    np.testing.assert_array_equal(differing(words, other[:1], 0.0), [True, True])
    assert CARE.startswith(".")
