from __future__ import annotations

import builtins
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from bnn_deploy import backends
from bnn_deploy.backends import BACKENDS, Source, Task, default_backends, import_software, make_runner
from bnn_deploy.errors import InputRefused

RUNNERS_OF_A_FILE = [name for name, entry in BACKENDS.items() if entry.source is not Source.MODULE]


def test_a_task_survives_the_way_to_another_process() -> None:
    task = Task("float.onnx", 2, {"x": [8, 3, 4, 4]}, ["y"], "birealnet", "weights.pth")
    assert Task(**json.loads(json.dumps(asdict(task)))) == task


@pytest.mark.parametrize("name", BACKENDS)
def test_a_runner_has_the_name_that_it_is_asked_for_by(name: str) -> None:
    module = import_software(name)
    names = {getattr(value, "name", None) for value in vars(module).values() if isinstance(value, type)}
    assert name in names


def test_unknown_runner() -> None:
    with pytest.raises(InputRefused, match="runner 'tensorrt': no such runner; wanted: one of onnxruntime-float, "):
        make_runner("tensorrt", Task("x", 1, {}, []))


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


def test_a_module_of_ours_that_is_missing_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = backends.Backend(Source.FLOAT, "runners.nowhere", lambda module, task: module, "nothing")
    monkeypatch.setitem(BACKENDS, "planted", entry)
    with pytest.raises(ModuleNotFoundError, match=r"bnn_deploy\.runners\.nowhere"):
        import_software("planted")


@pytest.mark.parametrize("name", RUNNERS_OF_A_FILE)
def test_a_file_that_is_not_there_is_refused(name: str, tmp_path: Path) -> None:
    if name.startswith("openvino"):
        pytest.importorskip("openvino")
    with pytest.raises(InputRefused, match=r"none\.onnx: no such file|the native library"):
        make_runner(name, Task(str(tmp_path / "none.onnx"), 1, {}, []))


def test_the_default_compares_with_float_and_has_ours_where_it_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "find_library", lambda: Path("lib.so"))
    assert default_backends() == ["onnxruntime-float", "onnxruntime-int8", "native-cpu"]
    monkeypatch.setattr(backends, "find_library", lambda: None)
    assert default_backends() == ["onnxruntime-float", "onnxruntime-int8", "onnxruntime"]
