"""The TensorRT plugin, through `plugins/tests/plugin_host.py`: its kernels in the host executor, or on a GPU.

BNN_TENSORRT_LIBRARY names another library than the one whose kernels run in the executor. That for GPUs gets its memory
from the library that BNN_CUDA_LIBRARY names. No TensorRT is needed for either.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PLUGINS = Path(__file__).resolve().parents[3] / "plugins"
# The host and the driver are in no package, nor is what the tests of the kernels share.
sys.path[:0] = [
    str(folder)
    for folder in (PLUGINS / "tests", PLUGINS / "cuda", Path(__file__).parents[1] / "cuda", Path(__file__).parent)
]

from cuda_builds import built  # noqa: E402
from driver import Library  # noqa: E402
from plugin_host import PluginLibrary  # noqa: E402

BUILT = PLUGINS.parent / "build" / "plugins" / "tensorrt"
WHAT = "the TensorRT plugin"


@pytest.fixture(scope="session")
def plugin_path() -> Path:
    """The library under test."""
    default = BUILT / "libbnn_deploy_tensorrt_host.so"
    return built(Path(os.environ.get("BNN_TENSORRT_LIBRARY", default)), WHAT)


@pytest.fixture(scope="session")
def plugins(plugin_path: Path) -> PluginLibrary:
    """The plugins of the library."""
    return PluginLibrary(built(plugin_path.with_name("libbnn_plugin_host.so"), "TensorRT's part"), plugin_path)


@pytest.fixture(scope="session")
def device(plugin_path: Path) -> Library:
    """What has the memory that the plugins work on: that of the executor is in the library itself."""
    has_memory = hasattr(ctypes.CDLL(str(plugin_path)), "bnn_cuda_allocate")
    return Library(plugin_path if has_memory else Path(os.environ["BNN_CUDA_LIBRARY"]))


@pytest.fixture
def memory(device: Library) -> Iterator[Any]:
    """Memory that is released when the test ends."""
    with device.memory() as held:
        yield held


@pytest.fixture
def generator() -> np.random.Generator:
    """Of random data."""
    return np.random.default_rng(0)
