"""A whole exported network on device memory: every 1-bit node a call of the plugin, nothing copied to the host.

What `plugins/tests/plugin_network.py` tests, made to be timed: once it has run, a run allocates nothing of its own,
waits for nothing, and can be captured into a CUDA graph. A network without nodes of ours is all float nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from device_memory import Memory
from plugin_modules import Plugin, PluginLibrary, Tensor, restored_plugin
from slots import Array

from bnn_deploy import opset

_INT32 = np.dtype(np.int32)
WORKSPACE_BYTES = 256  # at least: the address of nothing would be refused


@dataclass
class _Call:
    """A plugin, and what it was told when it ran first.

    Attributes:
        tensors: Inputs, then outputs, in their formats.
        workspace: A handle.
        handles: Of the last run, in the order of `tensors`.
    """

    plugin: Plugin
    inputs: int
    tensors: list[Tensor] = field(default_factory=list)
    workspace: Any = None
    handles: list[Any] = field(default_factory=list)


class DeviceNetwork:
    """Runs an exported network, node by node.

    Args:
        model: Deploy-level ops, or standard ones alone.
        plugins: The plugin library.
        memory: Where its tensors lie.
        constants: Of the network.
        feeds: Input name -> array of the whole batch.

    Raises:
        ValueError: The library has no plugin for a node of ours.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        plugins: PluginLibrary,
        memory: Memory,
        constants: Mapping[str, Array],
        feeds: Mapping[str, Array],
    ) -> None:
        self._nodes, self._memory = list(model.graph.node), memory
        served = set(plugins.ops())
        for node in self._nodes:
            if node.domain == opset.DOMAIN and node.op_type not in served:
                raise ValueError(f"{node.name} ({node.op_type}): there is no plugin for it")
        self._calls = {
            index: _Call(restored_plugin(plugins, node), len(node.input))
            for index, node in enumerate(self._nodes)
            if node.domain == opset.DOMAIN
        }
        self._given = {name: memory.constant(array) for name, array in constants.items()}
        self._given |= {name: memory.feed(array) for name, array in feeds.items()}
        self._dropped = self._last_uses([output.name for output in model.graph.output])
        self._values: dict[str, Any] = {}

    def _last_uses(self, outputs: list[str]) -> list[list[str]]:
        """For each node the values that nobody reads behind it."""
        last = {name: index for index, node in enumerate(self._nodes) for name in (*node.input, *node.output)}
        kept = {*self._given, *outputs, ""}
        dropped: list[list[str]] = [[] for _ in self._nodes]
        for name, index in last.items():
            if name not in kept:
                dropped[index].append(name)
        return dropped

    def run(self, *, keep: bool = False) -> None:
        """Runs on the memory's stream. keep: Whether all values stay, to be read."""
        self._values = values = dict(self._given)
        for index, node in enumerate(self._nodes):
            inputs = {name: values[name] for name in node.input if name}
            call = self._calls.get(index)
            made = self._memory.compute(node, inputs) if call is None else self._run_plugin(call, node, inputs)
            if call is not None and not keep:
                call.handles = []
            values.update(zip(node.output, made, strict=True))
            for name in () if keep else self._dropped[index]:
                del values[name]

    def _run_plugin(self, call: _Call, node: onnx.NodeProto, inputs: Mapping[str, Any]) -> list[Any]:
        memory, handles = self._memory, [inputs[name] for name in node.input]
        if not call.tensors:
            self._configure(call, [memory.described(handle) for handle in handles])
        given, made = call.tensors[: call.inputs], call.tensors[call.inputs :]
        call.handles = [memory.arranged(handle, tensor) for handle, tensor in zip(handles, given, strict=True)]
        call.handles += [memory.empty(name, tensor) for name, tensor in zip(node.output, made, strict=True)]
        self._enqueue(call, memory.stream())
        return call.handles[call.inputs :]

    def _configure(self, call: _Call, inputs: list[Tensor]) -> None:
        """All that TensorRT asks and tells a plugin before it runs; it may allocate here."""
        plugin, count = call.plugin, call.inputs
        call.tensors = plugin.formatted([*inputs, *plugin.outputs(inputs)], count, channels_last=True)
        plugin.configure(call.tensors, count)
        plugin.set_tactic(0)
        plugin.shapes_changed(call.tensors, count)
        size = max(plugin.workspace(call.tensors, count), WORKSPACE_BYTES)
        name = f"workspace {id(call)}"
        call.workspace = self._memory.empty(name, Tensor((-(-size // 4),), _INT32))

    def _enqueue(self, call: _Call, stream: int | None) -> None:
        addresses = [self._memory.address(handle) for handle in call.handles]
        call.plugin.enqueue(call.tensors, addresses, call.inputs, self._memory.address(call.workspace), stream)

    def run_plugins(self, stream: int | None) -> None:
        """The plugins alone, on the values of the last run, which has to have kept them."""
        for call in self._calls.values():
            self._enqueue(call, stream)

    def spoil(self) -> None:
        """Overwrites what the plugins have written."""
        for call in self._calls.values():
            for handle in call.handles[call.inputs :]:
                self._memory.spoil(handle)

    def read(self, name: str) -> Array:
        """The first and the last image of a value, as the last run left it."""
        return self._memory.read(self._values[name])

    def reader(self) -> Callable[[str], Array]:
        """`read`, each value once."""
        found: dict[str, Array] = {}

        def read(name: str) -> Array:
            if name not in found:
                found[name] = self.read(name)
            return found[name]

        return read

    def close(self) -> None:
        """Frees the plugins, and lets go of the tensors."""
        for call in self._calls.values():
            call.plugin.close()
        self._calls.clear()
        self._given, self._values = {}, {}
