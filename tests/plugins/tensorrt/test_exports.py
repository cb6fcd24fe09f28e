"""What the built libraries show to others, and what they need of them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

# What TensorRT asks a library of plugins for, and where the Python side learns what went wrong.
OURS = {"getCreators", "setLoggerFinder", "bnn_plugin_last_error"}
HOST, GPU = "libbnn_deploy_tensorrt_host.so", "libbnn_deploy_tensorrt.so"


@pytest.fixture(params=[HOST, GPU])
def library(request: pytest.FixtureRequest, repository: Path) -> Path:
    """A built library. That for GPUs is built where there is an nvcc."""
    path = repository / "build" / "plugins" / "tensorrt" / request.param
    if not path.is_file():
        pytest.skip(f"{request.param} is not built; make plugins")
    return path


def output(tool: str, *arguments: str | Path) -> str:
    """What a tool of binutils prints."""
    if shutil.which(tool) is None:
        pytest.skip(f"there is no {tool}")
    return subprocess.run([tool, *arguments], check=True, capture_output=True, text=True).stdout


def test_exported_symbols(library: Path) -> None:
    """Those of the executor's memory besides, in the library for tests; nothing of the standard library's."""
    symbols = {line.split()[-1] for line in output("nm", "-D", "--defined-only", library).splitlines()}
    memory = {name for name in symbols if name.startswith("bnn_cuda_")}
    assert symbols - memory == OURS
    assert bool(memory) == (library.name == HOST)


def test_needed_libraries(library: Path) -> None:
    """None of TensorRT, so that one file serves its versions; none of CUDA, whose runtime is linked in."""
    needed = re.findall(r"\(NEEDED\).*\[(.+)\]", output("readelf", "-d", library))
    assert needed and not [
        name for name in needed if not re.match(r"lib(stdc\+\+|gcc_s|c|m|dl|rt|pthread)\.so|ld-", name)
    ]


def test_undefined_symbols(library: Path) -> None:
    """Nor any function of either."""
    undefined = output("nm", "-D", "--undefined-only", library)
    assert not re.findall(r"nvinfer\w*|createInfer\w*|getPluginRegistry|\bcuda\w+|\bcu[A-Z]\w+", undefined)
