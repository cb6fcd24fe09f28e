"""Finds TensorRT: the package `tensorrt` where it is installed, else `tensorrt_rtx`.

Both have the same interface as far as this room uses it. What differs between versions (10.x, 11.x, RTX 1.x) is asked
of the module (`hasattr`), never told from a version number, and no value of an enumeration is written down.

TensorRT-RTX's ONNX parser opens `libtensorrt_rtx.so` when it meets the first plugin node, and ends the process when
there is no such file. Its wheel for Linux has `libtensorrt_rtx.so.1` only. So a library of that name, with nothing in
it but the need of the other, is loaded from memory (`shared_object`).
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from functools import cache
from importlib import import_module, metadata
from importlib.util import find_spec
from typing import Any

from bnn_deploy.errors import CheckFailed, InputRefused
from bnn_deploy.tensorrt.shared_object import empty_shared_object, machine_of

_ENTERPRISE, _RTX = "tensorrt", "tensorrt_rtx"
_RTX_LIBRARY, _RTX_WANTED = "libtensorrt_rtx.so.1", "libtensorrt_rtx.so"


@cache
def load_sdk() -> Any:
    """The module `tensorrt`, or `tensorrt_rtx`, ready for use.

    Raises:
        InputRefused: Neither is installed, or the one that is cannot be imported.
    """
    name = next((name for name in (_ENTERPRISE, _RTX) if _is_installed(name)), None)
    if name is None:
        raise InputRefused(
            "TensorRT",
            "neither `tensorrt` nor `tensorrt_rtx` is installed",
            fix="pip install 'bnn-deploy[gpu]', or 'bnn-deploy[rtx]' for TensorRT-RTX",
        )
    try:
        sdk = import_module("tensorrt") if name == _ENTERPRISE else import_module("tensorrt_rtx")
    except (ImportError, OSError) as error:
        raise InputRefused(
            name, f"cannot be imported: {error}", fix=f"install {name} again, for this Python"
        ) from error
    if name == _RTX and sys.platform == "linux":
        _give_the_library_its_second_name()
    return sdk


def _is_installed(name: str) -> bool:
    """A folder of that name beside the program is a package without origin to Python, and not what is meant."""
    spec = find_spec(name)
    return spec is not None and spec.origin is not None


def is_rtx(sdk: Any) -> bool:
    """Whether it is TensorRT-RTX, which has some functions in name only."""
    return bool(sdk.__name__ == _RTX)


def title(sdk: Any) -> str:
    """What messages call it, for example `TensorRT-RTX 1.7.1.116`."""
    return f"{'TensorRT-RTX' if is_rtx(sdk) else 'TensorRT'} {sdk.__version__}"


def cuda_version(sdk: Any) -> str:
    """The major version of CUDA that it was made for, as its distribution is named (`tensorrt_cu13`), or nothing."""
    name = re.compile(rf"{sdk.__name__}_cu(\d+)")
    installed = (str(distribution.metadata["Name"]) for distribution in metadata.distributions())
    found = (name.fullmatch(distribution.lower().replace("-", "_")) for distribution in installed)
    return next((match.group(1) for match in found if match), "")


@cache
def logger(sdk: Any) -> Any:
    """The one `ILogger` of this process, with `errors`, the messages since the last `take_errors`.

    One, and never freed: TensorRT keeps the first that it is given for as long as it is loaded.
    """

    class Logger(sdk.ILogger):
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (sdk.ILogger.Severity.INTERNAL_ERROR, sdk.ILogger.Severity.ERROR):
                self.errors.append(message)

        def take_errors(self) -> list[str]:
            errors, self.errors = self.errors, []
            return errors

    return Logger()


def make_builder(sdk: Any) -> Any:
    """An `IBuilder`.

    Raises:
        CheckFailed: TensorRT makes none, for example without a driver; with its own message.
    """
    log = logger(sdk)
    log.take_errors()
    try:
        return sdk.Builder(log)
    except TypeError as error:  # what the bindings make of a null pointer
        raise CheckFailed(f"{title(sdk)} has no builder here: {said(log.take_errors())}") from error


def said(errors: list[str], at_most: int = 3) -> str:
    """TensorRT's last error messages in one line, each once."""
    lines = list(dict.fromkeys(" ".join(error.split()) for error in errors))
    return "; ".join(lines[-at_most:]) or "no message"


def _give_the_library_its_second_name() -> None:
    try:
        ctypes.CDLL(_RTX_LIBRARY, mode=os.RTLD_NOLOAD)
    except OSError:
        return  # other bindings than those that are known: nothing to mend
    try:
        ctypes.CDLL(_RTX_WANTED, mode=os.RTLD_NOLOAD)
    except OSError:
        with open("/proc/self/exe", "rb") as own:
            machine = machine_of(own.read(20))
        descriptor = os.memfd_create(_RTX_WANTED)
        try:
            os.write(descriptor, empty_shared_object(_RTX_WANTED, _RTX_LIBRARY, machine))
            ctypes.CDLL(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)
