"""TensorRT's part, played from Python: the modules of `plugins/tests`, which are in no package."""

from __future__ import annotations

import sys

from slots import PLUGINS

sys.path.append(str(PLUGINS / "tests"))

from plugin_host import LINEAR, Plugin, PluginLibrary, Tensor
from plugin_network import PluginNetwork, one_node_model, restored_plugin

__all__ = [
    "LINEAR",
    "Plugin",
    "PluginLibrary",
    "PluginNetwork",
    "Tensor",
    "one_node_model",
    "restored_plugin",
]
