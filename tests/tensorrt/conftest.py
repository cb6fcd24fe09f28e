"""TensorRT-RTX comes as wheels for Linux on x86-64 only, and is required there; our plugin is built with nvcc alone."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import pytest

from bnn_deploy.native import TENSORRT_PLUGIN
from bnn_deploy.tensorrt.metadata import EngineMetadata, sha256_of

sys.path.append(str(Path(__file__).parent))  # what the tests of this folder share is in no package

collect_ignore_glob = [] if sys.platform == "linux" and platform.machine() == "x86_64" else ["test_*.py"]

PLAN = b"a plan"


@pytest.fixture(scope="session")
def plugin() -> Path:
    """The library of our plugins."""
    found = TENSORRT_PLUGIN.find()
    if found is None:
        pytest.skip("the TensorRT plugin is not built: make plugins, with nvcc")
    return found


@pytest.fixture
def plan() -> bytes:
    """What stands for an engine where nobody runs it."""
    return PLAN


@pytest.fixture
def metadata() -> EngineMetadata:
    """Of that engine."""
    return EngineMetadata(
        sdk="tensorrt",
        sdk_version="10.15",
        cuda="12",
        plugin_version="1",
        compute_capability="8.6",
        engine_sha256=sha256_of(PLAN),
        model_sha256="0" * 64,
        precision="fp32",
        profiles=[{"batch": [1, 8, 32]}],
        plugin_sha256="1" * 64,
        plugin_embedded=False,
        version_compatible=False,
        layers=[{"name": "conv", "kind": "CONVOLUTION", "outputs": [], "bytes": 12}],
        inputs={"x": {"shape": ["batch", 3], "type": "float32"}},
        outputs={"y": {"shape": ["batch", 5], "type": "float32"}},
    )
