"""Finds the native library: our kernels for ONNX Runtime, built by `make plugins`.

It is looked for in this order:

1. the file that the environment variable `BNN_DEPLOY_NATIVE_LIBRARY` names;
2. `lib/` inside the installed package;
3. `build/plugins/` of the source tree that the package runs from.

Without it everything still works, through the function bodies.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

from bnn_deploy.errors import InputRefused

VARIABLE = "BNN_DEPLOY_NATIVE_LIBRARY"
KERNELS_VARIABLE = "BNN_DEPLOY_CPU_KERNELS"  # read by the library: the set of CPU kernels to use

_SUFFIXES = {"win32": ".dll", "darwin": ".dylib"}
FILE_NAME = ("" if sys.platform == "win32" else "lib") + "bnn_deploy_ort" + _SUFFIXES.get(sys.platform, ".so")

_PACKAGE = Path(__file__).resolve().parent


def candidates() -> list[Path]:
    """Where the library is looked for, in order of preference."""
    named = os.environ.get(VARIABLE)
    if named:
        return [Path(named)]
    return [_PACKAGE / "lib" / FILE_NAME, _PACKAGE.parent / "build" / "plugins" / FILE_NAME]


def find_library() -> Path | None:
    """The library, or None where it is not built."""
    return next((path for path in candidates() if path.is_file()), None)


def chosen_kernels() -> str | None:
    """The set of kernels that the library would run on this processor; None where it is not built."""
    path = find_library()
    if path is None:
        return None
    loaded = ctypes.CDLL(str(path))
    loaded.bnn_kernels_chosen.restype = ctypes.c_char_p
    name: bytes | None = loaded.bnn_kernels_chosen()
    return name.decode() if name is not None else None


def library() -> Path:
    """The library.

    Raises:
        InputRefused: It is not there.
    """
    found = find_library()
    if found is None:
        places = " or ".join(str(path) for path in candidates())
        raise InputRefused("the native library", f"no file {places}", fix=f"make plugins, or set {VARIABLE}")
    return found
