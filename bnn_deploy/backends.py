"""What the benchmark can run, by name: which file a runner takes, how it is made, what has to be installed for it.

A runner's software is imported when the runner is made, so that a missing package costs that runner alone, and no
process holds software that it does not run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from types import ModuleType
from typing import Any

from bnn_deploy.errors import InputRefused
from bnn_deploy.native import find_library
from bnn_deploy.runners.base import Runner


class Source(StrEnum):
    """What a runner loads."""

    DEPLOYED = "deployed"  # the file that was given
    FLOAT = "float"  # its float twin
    INT8 = "int8"  # the twin, quantised
    MODULE = "module"  # the PyTorch model


@dataclass(frozen=True)
class Task:
    """What a runner is made for. Plain values, so that another process can be told.

    Attributes:
        file: The file of the runner's `Source`.
        threads: Threads within an operator.
        shapes: Input name -> shape, with the batch.
        outputs: The network's outputs, in order.
        model: Of `Source.MODULE`, what `load` takes: a zoo name, `file.py:factory` or `module:factory`.
        checkpoint: For that model; empty for none.
    """

    file: str
    threads: int
    shapes: Mapping[str, Sequence[int]]
    outputs: Sequence[str]
    model: str = ""
    checkpoint: str = ""


@dataclass(frozen=True)
class Backend:
    """One runner.

    Attributes:
        source: What it loads.
        module: Where the runner is, below `bnn_deploy`; importing it imports the runner's software.
        make: The runner of a task, given that module.
        package: What to install where that import fails.
    """

    source: Source
    module: str
    make: Callable[[Any, Task], Runner]
    package: str


def _pytorch(module: ModuleType, task: Task) -> Runner:
    loading = import_module("bnn_deploy.loading")
    model = loading.load_model(task.model, checkpoint=task.checkpoint or None)
    runner: Runner = module.PyTorchRunner(model, list(task.shapes), list(task.outputs), threads=task.threads)
    return runner


BACKENDS: dict[str, Backend] = {
    "onnxruntime-float": Backend(
        Source.FLOAT,
        "runners.onnxruntime_float",
        lambda module, task: module.OnnxRuntimeFloatRunner(task.file, threads=task.threads),
        "onnxruntime",
    ),
    "onnxruntime-int8": Backend(
        Source.INT8,
        "runners.onnxruntime_int8",
        lambda module, task: module.OnnxRuntimeInt8Runner(task.file, threads=task.threads),
        "onnxruntime",
    ),
    "openvino": Backend(
        Source.FLOAT,
        "runners.openvino",
        lambda module, task: module.OpenVinoRunner(task.file, threads=task.threads, shapes=task.shapes),
        "openvino",
    ),
    "openvino-int8": Backend(
        Source.INT8,
        "runners.openvino_int8",
        lambda module, task: module.OpenVinoInt8Runner(task.file, threads=task.threads, shapes=task.shapes),
        "openvino",
    ),
    "pytorch": Backend(Source.MODULE, "runners.pytorch", _pytorch, "torch"),
    "onnxruntime": Backend(
        Source.DEPLOYED,
        "runners.onnxruntime",
        lambda module, task: module.OnnxRuntimeRunner(task.file, threads=task.threads),
        "onnxruntime",
    ),
    "native-cpu": Backend(
        Source.DEPLOYED,
        "runners.native_cpu",
        lambda module, task: module.NativeCpuRunner(task.file, threads=task.threads),
        "onnxruntime",
    ),
}


def default_backends() -> list[str]:
    """The float network first, for the rest to be compared with; our library where it is built."""
    return ["onnxruntime-float", "onnxruntime-int8", "native-cpu" if find_library() is not None else "onnxruntime"]


def backend(name: str) -> Backend:
    """The backend of that name.

    Raises:
        InputRefused: There is none.
    """
    if name not in BACKENDS:
        raise InputRefused(f"runner {name!r}", "no such runner", f"one of {', '.join(BACKENDS)}")
    return BACKENDS[name]


def import_software(name: str) -> ModuleType:
    """Imports a runner with its software.

    Raises:
        InputRefused: A package is not installed; the message says which to install.
    """
    found = backend(name)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # PyTorch's threads would spin into the next runner's turn
    try:
        return import_module(f"bnn_deploy.{found.module}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "bnn_deploy":
            raise
        raise InputRefused(
            f"runner {name}",
            f"the package {error.name.split('.')[0]} is not installed",
            f"an installation with {found.package}",
            f"pip install {found.package}",
        ) from error


def make_runner(name: str, task: Task) -> Runner:
    """A runner, ready to run.

    Raises:
        InputRefused: No such runner, its software is missing, or it does not take the file.
    """
    return backend(name).make(import_software(name), task)
