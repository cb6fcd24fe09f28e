"""The runners by name."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnn_deploy.errors import InputRefused
from bnn_deploy.native import VARIABLE, find_library
from bnn_deploy.runners.catalogue import RUNNERS, exported_runners, factories


@pytest.mark.parametrize("name", RUNNERS)
def test_every_runner_runs_a_file(name: str, deployed: Callable[..., Any]) -> None:
    if name == "native-cpu" and find_library() is None:
        pytest.skip("the native library is not built")
    given = deployed("Residual")
    expected = RUNNERS["reference"](given.proto()).infer(given.feeds)["output"]
    with factories("--runner", [name])[name](given.proto()) as runner:
        found = runner.infer(given.feeds)["output"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_an_unknown_runner() -> None:
    assert list(factories("--runner", ["reference", "onnxruntime"])) == ["reference", "onnxruntime"]
    with pytest.raises(InputRefused, match=r"--runner: runners \['tpu'\]; wanted: names out of onnxruntime, "):
        factories("--runner", ["reference", "tpu"])


def test_the_native_runner_is_one_of_them_where_it_is_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nothing.so"))
    assert exported_runners() == ["onnxruntime"]
    (tmp_path / "nothing.so").write_bytes(b"")
    assert exported_runners() == ["onnxruntime", "native-cpu"]


def test_needs_no_torch() -> None:
    code = "import sys, bnn_deploy.runners.catalogue\nprint('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"
