"""The runners by name."""

from __future__ import annotations

import builtins
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnn_deploy.errors import InputRefused
from bnn_deploy.native import VARIABLE, find_library
from bnn_deploy.runners import catalogue
from bnn_deploy.runners.catalogue import (
    RUNNERS,
    Entry,
    Source,
    Task,
    Use,
    benchmarked_runners,
    check_loads,
    entry,
    exported_runners,
    factories,
    import_software,
    make_runner,
    names,
)

ON_A_GPU = {"onnxruntime-cuda", "tensorrt"}
ALL = [
    "reference",
    "onnxruntime",
    "onnxruntime-unoptimised",
    "onnxruntime-cuda",
    "native-cpu",
    "tensorrt",
    "pytorch",
    "onnxruntime-float",
    "onnxruntime-int8",
    "openvino",
    "openvino-int8",
]


def test_which_runners_there_are_and_where() -> None:
    assert list(RUNNERS) == ALL
    assert names(Use.RUN) == ALL[:6]
    assert names(Use.BENCH) == ALL[1:]


@pytest.mark.parametrize("name", names(Use.RUN))
def test_what_runs_a_file_or_part_of_it_loads_the_deployed_file(name: str) -> None:
    assert RUNNERS[name].source is Source.DEPLOYED


@pytest.mark.parametrize("name", [name for name in names(Use.RUN) if name not in ON_A_GPU])
def test_every_runner_runs_a_file(name: str, deployed: Callable[..., Any]) -> None:
    if name == "native-cpu" and find_library() is None:
        pytest.skip("the native library is not built")
    given = deployed("Residual")
    expected = make_runner("reference", Task(given.path)).infer(given.feeds)["output"]
    with factories([name])[name](given.proto()) as runner:
        found = runner.infer(given.feeds)["output"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", RUNNERS)
def test_a_runner_has_the_name_that_it_is_asked_for_by(name: str) -> None:
    module = import_software(name)
    found = {getattr(value, "name", None) for value in vars(module).values() if isinstance(value, type)}
    assert name.removesuffix("-unoptimised") in found


def test_an_unknown_runner() -> None:
    assert list(factories(["reference", "onnxruntime"])) == ["reference", "onnxruntime"]
    with pytest.raises(InputRefused, match="runner 'tpu': no such runner; wanted: one of reference, onnxruntime, "):
        factories(["reference", "tpu"])
    with pytest.raises(InputRefused, match="no such runner"):
        make_runner("tpu", Task("x"))


def test_a_runner_in_the_wrong_place() -> None:
    with pytest.raises(
        InputRefused, match="runner 'openvino': does not load a deployed file; wanted: one of reference"
    ):
        factories(["openvino"])
    with pytest.raises(InputRefused, match="runner 'reference': not for benchmarks; wanted: one of onnxruntime, "):
        entry("reference", Use.BENCH)


def test_an_engine_is_for_tensorrt() -> None:
    check_loads("tensorrt", "x.engine")
    check_loads("onnxruntime", "x.onnx")
    with pytest.raises(InputRefused) as refusal:
        check_loads("onnxruntime", Path("x.engine"))
    assert str(refusal.value) == (
        "runner onnxruntime: x.engine is an engine; wanted: an ONNX file; fix: --runner tensorrt"
    )


def test_a_task_survives_the_way_to_another_process() -> None:
    task = Task("float.onnx", 2, {"x": [8, 3, 4, 4]}, ["y"], "birealnet", "weights.pth")
    assert Task(**json.loads(json.dumps(asdict(task)))) == task


@pytest.mark.parametrize(("name", "package"), [("openvino", "openvino"), ("onnxruntime-int8", "onnxruntime")])
def test_a_missing_package_is_named_with_what_to_install(
    name: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(module: str, *arguments: Any, **options: Any) -> Any:
        if module.split(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)
        return real(module, *arguments, **options)

    for module in [module for module in sys.modules if module.startswith("bnn_deploy.runners.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputRefused) as refusal:
        import_software(name)
    assert str(refusal.value) == (
        f"runner {name}: the package {package} is not installed; wanted: an installation with {package}; "
        f"fix: pip install {package}"
    )
    import_software("reference")  # a missing package costs the others nothing


def test_a_module_of_ours_that_is_missing_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    planted = Entry(Source.FLOAT, Use.BENCH, "nowhere", lambda module, task: module, "nothing")
    monkeypatch.setitem(RUNNERS, "planted", planted)
    with pytest.raises(ModuleNotFoundError, match=r"bnn_deploy\.runners\.nowhere"):
        import_software("planted")


@pytest.mark.parametrize(
    "name", [name for name, runner in RUNNERS.items() if runner.source is not Source.MODULE and name not in ON_A_GPU]
)
def test_a_file_that_is_not_there_is_refused(name: str, tmp_path: Path) -> None:
    if name.startswith("openvino"):
        pytest.importorskip("openvino")
    with pytest.raises(InputRefused, match=r"none\.onnx: no such file|the native library"):
        make_runner(name, Task(str(tmp_path / "none.onnx"), 1))


def test_the_native_runner_is_one_of_them_where_it_is_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nothing.so"))
    assert exported_runners() == ["onnxruntime"]
    (tmp_path / "nothing.so").write_bytes(b"")
    assert exported_runners() == ["onnxruntime", "native-cpu"]


def test_the_default_compares_with_float_and_has_ours_where_it_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "find_library", lambda: Path("lib.so"))
    assert benchmarked_runners() == ["onnxruntime-float", "onnxruntime-int8", "native-cpu"]
    monkeypatch.setattr(catalogue, "find_library", lambda: None)
    assert benchmarked_runners() == ["onnxruntime-float", "onnxruntime-int8", "onnxruntime"]


def test_reading_the_table_imports_nothing() -> None:
    heavy = "{'torch', 'numpy', 'onnx', 'onnxruntime', 'openvino', 'tensorrt', 'tensorrt_rtx'}"
    code = f"import sys, bnn_deploy.runners.catalogue\nprint(sorted({heavy} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
