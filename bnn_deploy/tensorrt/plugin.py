"""Loads our TensorRT plugin into TensorRT's registry, and asks it what went wrong.

One file serves `tensorrt` 10 and 11 and `tensorrt_rtx`: it is linked to none of them. `native` finds it.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

from bnn_deploy import opset
from bnn_deploy.errors import CheckFailed, InputRefused
from bnn_deploy.tensorrt.sdk import load_sdk, logger, said, title

VERSION = "1"  # of the plugins, as a node's attribute `plugin_version` names it
NAMESPACE = ""  # likewise, `plugin_namespace`

_LONGEST_MESSAGE = 4096
_WANTED = "the library that `make plugins` builds"


@cache
def load_plugin(path: Path) -> None:
    """Loads the plugin into the registry, once a process; it stays there.

    Raises:
        InputRefused: The file is no library of plugins, or of another version.
        CheckFailed: TensorRT does not take it; with its own message.
    """
    sdk = load_sdk()
    try:
        exports = ctypes.CDLL(str(path))
    except OSError as error:
        raise InputRefused(str(path), f"cannot be loaded: {error}", _WANTED) from error
    if not hasattr(exports, "getCreators") or not hasattr(exports, "bnn_plugin_last_error"):
        raise InputRefused(str(path), "a library without our plugins", _WANTED)
    log = logger(sdk)
    log.take_errors()
    loaded = sdk.get_plugin_registry().load_library(str(path))
    versions = {creator.plugin_version for creator in _creators(sdk) if creator.name == opset.PACKED_CONV2D}
    if loaded is None and not versions:  # with them, it was loaded before
        raise CheckFailed(f"{title(sdk)} does not load {path}: {said(log.take_errors())}")
    if VERSION not in versions:
        found = f"plugins of version {', '.join(sorted(versions)) or 'unknown'}"
        raise InputRefused(str(path), found, f"version {VERSION}", "make plugins")


def take_plugin_error(path: Path) -> str:
    """What the plugin last refused, and forgets it; empty where it refused nothing."""
    text = ctypes.create_string_buffer(_LONGEST_MESSAGE)
    ctypes.CDLL(str(path)).bnn_plugin_last_error(text, _LONGEST_MESSAGE)
    return text.value.decode(errors="replace")


def plugin_ops(sdk: Any) -> set[str]:
    """The op types that our plugins in the registry serve."""
    return {
        creator.name
        for creator in _creators(sdk)
        if (creator.plugin_version, creator.plugin_namespace) == (VERSION, NAMESPACE)
    }


def _creators(sdk: Any) -> list[Any]:
    registry = sdk.get_plugin_registry()
    return list(registry.all_creators if hasattr(registry, "all_creators") else registry.plugin_creator_list)
