"""Real libraries of TensorRT load the plugin: the lean runtime, which is an 11.x, and TensorRT-RTX.

Each in a process of its own: a registry is one for a process, and what else is tested there has no plugins.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from plugin_cases import OPS

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64",
    reason="TensorRT comes as wheels for Linux on x86-64 only",
)
MODULES = ("tensorrt_lean_bindings", "tensorrt_rtx")
LIBRARIES = ("libbnn_deploy_tensorrt_host.so", "libbnn_deploy_tensorrt.so")


@pytest.fixture(scope="module", params=[(module, library) for module in MODULES for library in LIBRARIES], ids="-".join)
def loaded(request: pytest.FixtureRequest, plugin_path: Path) -> dict[str, Any]:
    """What `registry_child.py` found."""
    module, name = request.param
    library = plugin_path.with_name(name)
    if not library.is_file():
        pytest.skip(f"{name} is not built; make plugins")
    child = Path(__file__).with_name("registry_child.py")
    ran = subprocess.run([sys.executable, child, module, library], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found


def test_every_op_is_registered(loaded: dict[str, Any]) -> None:
    assert loaded["creators"] == sorted([op, "1", ""] for op in OPS)
    assert loaded["fields"] == ["channels", "strides", "pads", "kernel_shape"]


def test_plugins_are_made(loaded: dict[str, Any]) -> None:
    assert loaded["capabilities"] == [True, True, True]


def test_a_refusal_has_its_message(loaded: dict[str, Any]) -> None:
    assert loaded["refused"]
    assert loaded["error"] == "PackTernary 'layer1': attribute channels is 0, wanted 1 to 16777216"


def test_it_is_loaded_once_and_unloaded(loaded: dict[str, Any]) -> None:
    assert loaded["twice"] and loaded["left"] == []
