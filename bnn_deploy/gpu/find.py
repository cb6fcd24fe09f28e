"""Finds a package that has a GPU."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from bnn_deploy.errors import InputRefused
from bnn_deploy.gpu.device import Gpu


def _pytorch() -> Gpu:
    gpu: Gpu = import_module("bnn_deploy.gpu.pytorch").PyTorchGpu()
    return gpu


def _cuda_python() -> Gpu:
    gpu: Gpu = import_module("bnn_deploy.gpu.cuda_python").CudaPythonGpu()
    return gpu


def _pycuda() -> Gpu:
    gpu: Gpu = import_module("bnn_deploy.gpu.pycuda").PyCudaGpu()
    return gpu


PACKAGES: dict[str, Callable[[], Gpu]] = {"PyTorch": _pytorch, "cuda-python": _cuda_python, "pycuda": _pycuda}


def open_gpu() -> Gpu:
    """The GPU, by the first package that is installed and finds one.

    Raises:
        InputRefused: None does; the message has the reason of each.
    """
    reasons = []
    for package, make in PACKAGES.items():
        try:
            return make()
        except ModuleNotFoundError:
            reasons.append(f"{package} is not installed")
        except InputRefused as error:
            reasons.append(f"{package}: {error.found}")
        except Exception as error:  # no driver, or one that is too old: each package has exceptions of its own for it
            reasons.append(f"{package}: {error}")
    found = f"an engine runs on a GPU, and there is none to be had ({'; '.join(reasons)})"
    raise InputRefused("TensorRT", found, "a GPU, its driver, and one of the three")
