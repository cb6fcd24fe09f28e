"""Finds our TensorRT plugin, loads it into TensorRT's registry, and asks it what went wrong.

It is looked for in this order:

1. the file that the environment variable `BNN_DEPLOY_TENSORRT_PLUGIN` names;
2. `lib/` inside the installed package;
3. `build/plugins/tensorrt/` of the source tree that the package runs from.

One file serves `tensorrt` 10 and 11 and `tensorrt_rtx`: it is linked to none of them.
"""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

from bnn_deploy import opset
from bnn_deploy.errors import CheckFailed, InputRefused
from bnn_deploy.tensorrt.sdk import load_sdk, logger, said, title

VARIABLE = "BNN_DEPLOY_TENSORRT_PLUGIN"
VERSION = "1"  # of the plugins, as a node's attribute `plugin_version` names it
NAMESPACE = ""  # likewise, `plugin_namespace`
FILE_NAME = "bnn_deploy_tensorrt.dll" if sys.platform == "win32" else "libbnn_deploy_tensorrt.so"

_PACKAGE = Path(__file__).resolve().parent.parent
_LONGEST_MESSAGE = 4096


def candidates() -> list[Path]:
    """Where the plugin is looked for, in order of preference."""
    named = os.environ.get(VARIABLE)
    if named:
        return [Path(named)]
    return [_PACKAGE / "lib" / FILE_NAME, _PACKAGE.parent / "build" / "plugins" / "tensorrt" / FILE_NAME]


def find_plugin() -> Path | None:
    """The plugin, or None where it is not built."""
    return next((path for path in candidates() if path.is_file()), None)


def plugin_path() -> Path:
    """The plugin.

    Raises:
        InputRefused: It is not there.
    """
    found = find_plugin()
    if found is None:
        places = " or ".join(str(path) for path in candidates())
        raise InputRefused("the TensorRT plugin", f"no file {places}", fix=f"make plugins, or set {VARIABLE}")
    return found


@cache
def load_plugin(path: Path) -> None:
    """Loads the plugin into the registry, once a process; it stays there.

    Raises:
        InputRefused: The file is no library of plugins.
        CheckFailed: TensorRT does not take it; with its own message.
    """
    sdk = load_sdk()
    try:
        exports = ctypes.CDLL(str(path))
    except OSError as error:
        raise InputRefused(str(path), f"cannot be loaded: {error}", "the library that `make plugins` builds") from error
    if not hasattr(exports, "getCreators") or not hasattr(exports, "bnn_plugin_last_error"):
        raise InputRefused(str(path), "a library without our plugins", "the library that `make plugins` builds")
    log = logger(sdk)
    log.take_errors()
    if sdk.get_plugin_registry().load_library(str(path)) is None:
        raise CheckFailed(f"{title(sdk)} does not load {path}: {said(log.take_errors())}")
    versions = {creator.plugin_version for creator in _creators(sdk) if creator.name == opset.PACKED_CONV2D}
    if VERSION not in versions:
        found = f"plugins of version {', '.join(sorted(versions)) or 'unknown'}"
        raise InputRefused(str(path), found, f"version {VERSION}", "make plugins")


def take_plugin_error(path: Path) -> str:
    """What the plugin last refused, and forgets it; empty where it refused nothing."""
    text = ctypes.create_string_buffer(_LONGEST_MESSAGE)
    ctypes.CDLL(str(path)).bnn_plugin_last_error(text, _LONGEST_MESSAGE)
    return text.value.decode(errors="replace")


def plugin_ops(sdk: Any) -> set[str]:
    """The op types that some plugin in the registry serves."""
    return {creator.name for creator in _creators(sdk)}


def _creators(sdk: Any) -> list[Any]:
    registry = sdk.get_plugin_registry()
    return list(registry.all_creators if hasattr(registry, "all_creators") else registry.plugin_creator_list)
