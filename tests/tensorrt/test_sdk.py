"""Finding TensorRT, and living with TensorRT-RTX's parser."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from bnn_deploy.errors import CheckFailed, InputRefused
from bnn_deploy.tensorrt import sdk


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    yield
    sdk.load_sdk.cache_clear()


def installed(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    sdk.load_sdk.cache_clear()
    real = importlib.util.find_spec

    def find_spec(name: str) -> Any:
        if name in ("tensorrt", "tensorrt_rtx"):
            return SimpleNamespace(origin="somewhere") if name in names else None
        return real(name)

    monkeypatch.setattr(sdk, "find_spec", find_spec)


def fake(monkeypatch: pytest.MonkeyPatch, name: str) -> ModuleType:
    module = ModuleType(name)
    module.__version__ = "10.15.1"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, name, module)
    return module


def test_the_one_that_the_tests_run_with() -> None:
    assert sdk.load_sdk() is sdk.load_sdk()
    assert sdk.title(sdk.load_sdk()).startswith("TensorRT-RTX 1.")


def test_tensorrt_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, "tensorrt", "tensorrt_rtx")
    module = fake(monkeypatch, "tensorrt")
    assert sdk.load_sdk() is module
    assert sdk.title(module) == "TensorRT 10.15.1"


def test_neither_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch)
    with pytest.raises(InputRefused, match=r"neither `tensorrt` nor `tensorrt_rtx`.*fix: pip install"):
        sdk.load_sdk()


def test_a_folder_of_that_name_is_not_tensorrt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tensorrt").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert importlib.util.find_spec("tensorrt") is not None
    sdk.load_sdk.cache_clear()
    assert sdk.title(sdk.load_sdk()).startswith("TensorRT-RTX 1.")


def test_one_that_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, "tensorrt")
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(InputRefused, match=r"tensorrt: cannot be imported"):
        sdk.load_sdk()


def test_no_builder_is_a_failure_with_tensorrts_own_words() -> None:
    def no_builder(log: Any) -> None:
        log.log("error", "no driver")
        log.log("warning", "something else")
        raise TypeError("factory function returned nullptr")

    class ILogger:
        Severity = SimpleNamespace(INTERNAL_ERROR="internal", ERROR="error")

    module = SimpleNamespace(__name__="tensorrt", __version__="11.0", ILogger=ILogger, Builder=no_builder)
    hashable = type("Sdk", (), vars(module) | {"Builder": staticmethod(no_builder)})
    hashable.__name__ = "tensorrt"
    with pytest.raises(CheckFailed, match=r"TensorRT 11.0 has no builder here: no driver$"):
        sdk.make_builder(hashable)


def test_messages_are_said_once_the_last_ones_last() -> None:
    assert sdk.said([]) == "no message"
    assert sdk.said(["a\n b", "c", "a b", "d", "e"]) == "c; d; e"


@pytest.mark.parametrize(("loaded", "status"), [("by us", 0), ("as shipped", -signal.SIGABRT)])
def test_a_plugin_node_does_not_end_the_process(loaded: str, status: int) -> None:
    """In a process of its own. As shipped it does end it: should this fail, the remedy in `sdk` can go."""
    child = Path(__file__).with_name("plugin_child.py")
    done = subprocess.run([sys.executable, str(child), loaded], capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    assert done.stdout.splitlines() == (["PLUGIN_V3 pack"] if status == 0 else [])
