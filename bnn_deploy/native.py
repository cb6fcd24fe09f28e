"""Finds the native libraries: our kernels for ONNX Runtime and our plugins for TensorRT, built by `make plugins`.

Each is looked for in this order:

1. the file that its environment variable names;
2. `lib/` inside the installed package;
3. `build/plugins/` of the source tree that the package runs from.

Without the one for ONNX Runtime everything still works, through the function bodies.
"""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from bnn_deploy.errors import InputRefused

VARIABLE = "BNN_DEPLOY_NATIVE_LIBRARY"
PLUGIN_VARIABLE = "BNN_DEPLOY_TENSORRT_PLUGIN"
KERNELS_VARIABLE = "BNN_DEPLOY_CPU_KERNELS"  # read by the library: the set of CPU kernels to use

_SUFFIXES = {"win32": ".dll", "darwin": ".dylib"}
_PACKAGE = Path(__file__).resolve().parent


def _file_name(stem: str) -> str:
    return ("" if sys.platform == "win32" else "lib") + stem + _SUFFIXES.get(sys.platform, ".so")


@dataclass(frozen=True)
class NativeLibrary:
    """One of them.

    Attributes:
        title: What messages call it.
        variable: The environment variable that may name its file.
        file_name: Its file.
        folder: Where that is built, below `build/plugins/`.
    """

    title: str
    variable: str
    file_name: str
    folder: str = ""

    def candidates(self) -> list[Path]:
        """Where it is looked for, in order of preference."""
        named = os.environ.get(self.variable)
        if named:
            return [Path(named)]
        built = _PACKAGE.parent / "build" / "plugins" / self.folder
        return [_PACKAGE / "lib" / self.file_name, built / self.file_name]

    def find(self) -> Path | None:
        """Its file, or None where it is not built."""
        return next((path for path in self.candidates() if path.is_file()), None)

    def path(self) -> Path:
        """Its file.

        Raises:
            InputRefused: It is not there.
        """
        found = self.find()
        if found is None:
            places = " or ".join(str(path) for path in self.candidates())
            raise InputRefused(self.title, f"no file {places}", fix=f"make plugins, or set {self.variable}")
        return found


FILE_NAME = _file_name("bnn_deploy_ort")
ONNXRUNTIME_KERNELS = NativeLibrary("the native library", VARIABLE, FILE_NAME)
TENSORRT_PLUGIN = NativeLibrary(
    "the TensorRT plugin", PLUGIN_VARIABLE, _file_name("bnn_deploy_tensorrt"), folder="tensorrt"
)


def find_library() -> Path | None:
    """The library for ONNX Runtime, or None where it is not built."""
    return ONNXRUNTIME_KERNELS.find()


def library() -> Path:
    """The library for ONNX Runtime.

    Raises:
        InputRefused: It is not there.
    """
    return ONNXRUNTIME_KERNELS.path()


def chosen_kernels() -> str | None:
    """The set of kernels that the library would run on this processor; None where it is not built."""
    path = find_library()
    if path is None:
        return None
    loaded = ctypes.CDLL(str(path))
    loaded.bnn_kernels_chosen.restype = ctypes.c_char_p
    name: bytes | None = loaded.bnn_kernels_chosen()
    return name.decode() if name is not None else None
