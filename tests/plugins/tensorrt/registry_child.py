"""Loads the plugin through a TensorRT of its own process. `module library`: prints what it found, as JSON."""

from __future__ import annotations

import ctypes
import json
import sys
from importlib import import_module
from typing import Any

import numpy as np

from bnn_deploy.tensorrt.sdk import load_sdk

module, library = sys.argv[1:]
trt: Any = load_sdk() if module == "tensorrt_rtx" else import_module(module)
registry = trt.get_plugin_registry()
before = {creator.name for creator in registry.all_creators}
handle = registry.load_library(library)


def created(op: str, **attributes: list[int]) -> Any:
    """What the creator of an op makes of attributes."""
    kept = {name: np.array(value, np.int32) for name, value in attributes.items()}
    fields = [trt.PluginField(name, value, trt.PluginFieldType.INT32) for name, value in kept.items()]
    creator = registry.get_creator(op, "1", "")
    return creator.create_plugin("layer1", trt.PluginFieldCollection(fields), trt.TensorRTPhase.BUILD)


def last_error() -> str:
    """What the library says of the call that failed."""
    text = ctypes.create_string_buffer(1000)
    ctypes.CDLL(library).bnn_plugin_last_error(text, len(text))
    return text.value.decode()


plugin = created("PackTernary", channels=[64])
found = {
    "version": trt.__version__,
    "creators": sorted(
        [creator.name, creator.plugin_version, creator.plugin_namespace]
        for creator in registry.all_creators
        if creator.name not in before
    ),
    "fields": [field.name for field in registry.get_creator("PackedMaxPool2d", "1", "").field_names],
    "capabilities": [
        plugin.get_capability_interface(kind) is not None
        for kind in (trt.PluginCapabilityType.CORE, trt.PluginCapabilityType.BUILD, trt.PluginCapabilityType.RUNTIME)
    ],
    "refused": created("PackTernary", channels=[0]) is None,
    "error": last_error(),
    "twice": registry.load_library(library) is None,
}
del plugin
registry.deregister_library(handle)
found["left"] = sorted({creator.name for creator in registry.all_creators} - before)
print(json.dumps(found))
