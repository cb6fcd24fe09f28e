"""Packages that a GPU bundle brings along: what pip fetches for the Python of the GPU machine."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from contents import Missing, tell

RTX_BINDINGS = "tensorrt_rtx_cu13_bindings"
# PyPI has it as source alone.
PYCUDA = "pycuda==2026.1"
# What that is built with. Of the headers' CUDA release: pycuda loads where the driver has all functions that they name.
PYCUDA_BUILD = ("setuptools==84.2.1", "nvidia-cuda-runtime==13.0.96", "nvidia-cuda-profiler-api==13.0.85")
# What it imports, beside NumPy, and what that imports.
PYCUDA_IMPORTS = (
    "mako==1.4.3",
    "markupsafe==3.0.4",
    "platformdirs==4.14.7",
    "pytools==2026.1.1",
    "siphash24==1.9",
    "typing_extensions==4.16.0",
)
PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014", "manylinux1")


def fetch(wanted: Sequence[str], words: Sequence[str], folder: Path) -> None:
    """Has pip fetch packages, without what they depend on; words: its other options."""
    tell(f"fetching {', '.join(wanted)}")
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), *words, *wanted]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        raise Missing(f"{', '.join(wanted)}: {(ran.stderr.strip().splitlines() or ['pip failed'])[-1]}")


def as_wheels(python: str) -> list[str]:
    """The options of pip that ask for wheels for that Python, on Linux and x86-64."""
    words = ["--only-binary=:all:", "--python-version", python, "--implementation", "cp"]
    return words + [word for platform in PLATFORMS for word in ("--platform", f"{platform}_x86_64")]


def wheels(python: str, more: Sequence[str], folder: Path) -> list[tuple[str, Path]]:
    """TensorRT-RTX's bindings, and what else was named."""
    shutil.rmtree(folder, ignore_errors=True)
    fetch([f"{RTX_BINDINGS}=={metadata.version(RTX_BINDINGS)}", *more], as_wheels(python), folder)
    return [(path.name, path) for path in sorted(folder.glob("*.whl"))]


def pycuda(python: str, folder: Path) -> list[tuple[str, Path]]:
    """The source of pycuda, and wheels of all that it takes beside NumPy, a compiler and a driver."""
    shutil.rmtree(folder, ignore_errors=True)
    fetch([*PYCUDA_BUILD, *PYCUDA_IMPORTS], as_wheels(python), folder)
    fetch([PYCUDA], ["--no-binary=pycuda"], folder)
    return [(path.name, path) for path in sorted(folder.iterdir())]
