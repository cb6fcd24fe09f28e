"""What can run an exported file, by name. Nothing here needs PyTorch, which runs the model and not the file."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import onnx

from bnn_deploy.errors import InputRefused
from bnn_deploy.native import find_library
from bnn_deploy.runners.base import Runner
from bnn_deploy.runners.native_cpu import NativeCpuRunner
from bnn_deploy.runners.onnxruntime import OnnxRuntimeRunner
from bnn_deploy.runners.reference import ReferenceRunner

RUNNERS: dict[str, Callable[[onnx.ModelProto], Runner]] = {
    "onnxruntime": OnnxRuntimeRunner,
    "onnxruntime-unoptimised": lambda model: OnnxRuntimeRunner(model, optimise=False),
    "native-cpu": NativeCpuRunner,
    "reference": ReferenceRunner,
}


def exported_runners() -> list[str]:
    """The runners that an exported file is checked on: stock ONNX Runtime, and the native library where it is built."""
    return ["onnxruntime", *(["native-cpu"] if find_library() is not None else [])]


def factories(where: str, names: Iterable[str]) -> dict[str, Callable[[onnx.ModelProto], Runner]]:
    """Runner name -> what makes one of a model.

    Args:
        where: The option or function that the names were given to.
        names: Out of `RUNNERS`.

    Raises:
        InputRefused: A name is not known.
    """
    wanted = list(names)
    unknown = [name for name in wanted if name not in RUNNERS]
    if unknown:
        raise InputRefused(where, f"runners {unknown}", f"names out of {', '.join(RUNNERS)}")
    return {name: RUNNERS[name] for name in wanted}
