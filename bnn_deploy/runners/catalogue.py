"""Every runner there is, by name: what it loads, where it can be chosen, how it is made, what has to be installed.

A runner's software is imported when the runner is chosen, so that a missing package costs that runner alone, and no
process holds software that it does not run. Nothing here needs PyTorch, NumPy or ONNX. A new runner is one file beside
this one, which sees no other runner, and one entry in `RUNNERS`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Flag, StrEnum, auto
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from bnn_deploy.errors import InputRefused
from bnn_deploy.files import is_engine
from bnn_deploy.native import find_library

if TYPE_CHECKING:
    import onnx

    from bnn_deploy.runners.base import Runner


class Source(StrEnum):
    """What a runner loads."""

    DEPLOYED = "deployed"  # the file that was given
    FLOAT = "float"  # its float twin
    INT8 = "int8"  # the twin, quantised
    MODULE = "module"  # the PyTorch model


class Use(Flag):
    """Where a runner can be chosen."""

    RUN = auto()  # `run`, `parity`, `verify`, `check_parity`: on a deployed file, or a part of one in memory
    BENCH = auto()  # `bench`, `benchmark`


@dataclass(frozen=True)
class Task:
    """What a runner is made for. All but a model in memory are plain values, so that another process can be told.

    Attributes:
        file: What the runner's `Source` says, a path or a model in memory; empty where that is no file.
        threads: Threads within an operator; None leaves the choice to the runner's software.
        shapes: Input name -> shape, with the batch; empty where they are not known yet.
        outputs: The network's outputs, in order; likewise.
        model: Of `Source.MODULE`, what `load` takes: a zoo name, `file.py:factory` or `module:factory`.
        checkpoint: For that model; empty for none.
    """

    file: str | Path | onnx.ModelProto
    threads: int | None = None
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    outputs: Sequence[str] = ()
    model: str = ""
    checkpoint: str = ""


@dataclass(frozen=True)
class Entry:
    """One runner.

    Attributes:
        source: What it loads.
        uses: Where it can be chosen.
        module: The file that it is in, beside this one; importing it imports the runner's software.
        make: The runner of a task, given that module.
        package: What to install where that import fails.
        engines: Whether it loads an `.engine` as well.
    """

    source: Source
    uses: Use
    module: str
    make: Callable[[Any, Task], Runner]
    package: str
    engines: bool = False


def _pytorch(module: Any, task: Task) -> Runner:
    loading = import_module("bnn_deploy.loading")
    model = loading.load_model(task.model, checkpoint=task.checkpoint or None)
    runner: Runner = module.PyTorchRunner(model, list(task.shapes), list(task.outputs), threads=task.threads)
    return runner


RUNNERS: dict[str, Entry] = {
    # In integers and float64, which is what all others are held to.
    "reference": Entry(
        Source.DEPLOYED,
        Use.RUN,
        "reference",
        lambda module, task: module.ReferenceRunner(task.file),
        "onnx",
    ),
    # ONNX Runtime as it is installed, on the file's function bodies.
    "onnxruntime": Entry(
        Source.DEPLOYED,
        Use.RUN | Use.BENCH,
        "onnxruntime",
        lambda module, task: module.OnnxRuntimeRunner(task.file, threads=task.threads),
        "onnxruntime",
    ),
    "onnxruntime-unoptimised": Entry(
        Source.DEPLOYED,
        Use.RUN | Use.BENCH,
        "onnxruntime",
        lambda module, task: module.OnnxRuntimeRunner(task.file, threads=task.threads, optimise=False),
        "onnxruntime",
    ),
    "onnxruntime-cuda": Entry(
        Source.DEPLOYED,
        Use.RUN | Use.BENCH,
        "onnxruntime_cuda",
        lambda module, task: module.OnnxRuntimeCudaRunner(task.file),
        "onnxruntime-gpu",
    ),
    # Our kernels.
    "native-cpu": Entry(
        Source.DEPLOYED,
        Use.RUN | Use.BENCH,
        "native_cpu",
        lambda module, task: module.NativeCpuRunner(task.file, threads=task.threads),
        "onnxruntime",
    ),
    "tensorrt": Entry(
        Source.DEPLOYED,
        Use.RUN | Use.BENCH,
        "tensorrt",
        lambda module, task: module.TensorRTRunner(task.file),
        "tensorrt",
        engines=True,
    ),
    # What a user has without us, to be compared with.
    "pytorch": Entry(Source.MODULE, Use.BENCH, "pytorch", _pytorch, "torch"),
    "onnxruntime-float": Entry(
        Source.FLOAT,
        Use.BENCH,
        "onnxruntime_float",
        lambda module, task: module.OnnxRuntimeFloatRunner(task.file, threads=task.threads),
        "onnxruntime",
    ),
    "onnxruntime-int8": Entry(
        Source.INT8,
        Use.BENCH,
        "onnxruntime_int8",
        lambda module, task: module.OnnxRuntimeInt8Runner(task.file, threads=task.threads),
        "onnxruntime",
    ),
    "openvino": Entry(
        Source.FLOAT,
        Use.BENCH,
        "openvino",
        lambda module, task: module.OpenVinoRunner(task.file, threads=task.threads, shapes=task.shapes or None),
        "openvino",
    ),
    "openvino-int8": Entry(
        Source.INT8,
        Use.BENCH,
        "openvino_int8",
        lambda module, task: module.OpenVinoInt8Runner(task.file, threads=task.threads, shapes=task.shapes or None),
        "openvino",
    ),
}


_NOT_FOR = {Use.RUN: "does not load a deployed file", Use.BENCH: "not for benchmarks"}


def names(use: Use) -> list[str]:
    """The runners that can be chosen there."""
    return [name for name, runner in RUNNERS.items() if use in runner.uses]


def exported_runners() -> list[str]:
    """The runners that an exported file is checked on: stock ONNX Runtime, and the native library where it is built."""
    return ["onnxruntime", *(["native-cpu"] if find_library() is not None else [])]


def benchmarked_runners() -> list[str]:
    """The float network first, for the rest to be compared with; our library where it is built."""
    return ["onnxruntime-float", "onnxruntime-int8", "native-cpu" if find_library() is not None else "onnxruntime"]


def entry(name: str, use: Use | None = None) -> Entry:
    """The entry of a runner.

    Args:
        name: Out of `RUNNERS`.
        use: Where it is chosen; None for anywhere.

    Raises:
        InputRefused: There is none of that name, or it cannot be chosen there.
    """
    allowed = list(RUNNERS) if use is None else names(use)
    if name not in allowed:
        found = _NOT_FOR[use] if use is not None and name in RUNNERS else "no such runner"
        raise InputRefused(f"runner {name!r}", found, f"one of {', '.join(allowed)}")
    return RUNNERS[name]


def check_loads(name: str, file: str | Path) -> None:
    """Raises `InputRefused` where `file` is an engine and the runner takes none."""
    if is_engine(file) and not entry(name).engines:
        takers = ", ".join(other for other, runner in RUNNERS.items() if runner.engines)
        raise InputRefused(f"runner {name}", f"{file} is an engine", "an ONNX file", f"--runner {takers}")


def import_software(name: str) -> ModuleType:
    """Imports a runner with its software.

    Raises:
        InputRefused: A package is not installed; the message says which to install.
    """
    found = entry(name)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # PyTorch's threads would spin into the next runner's turn
    try:
        return import_module(f"bnn_deploy.runners.{found.module}")
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
    return entry(name).make(import_software(name), task)


def factories(chosen: Iterable[str]) -> dict[str, Callable[[onnx.ModelProto], Runner]]:
    """Runner name -> what makes one of a deployed model.

    Args:
        chosen: Out of `names(Use.RUN)`.

    Raises:
        InputRefused: A name is not among them, or its software is missing.
    """

    def factory(name: str) -> Callable[[onnx.ModelProto], Runner]:
        entry(name, Use.RUN)
        import_software(name)
        return lambda model: make_runner(name, Task(model))

    return {name: factory(name) for name in chosen}
