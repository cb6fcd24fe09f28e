"""A network's contenders: ours, and the same network in PyTorch and TensorRT. Each is checked before it is timed."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import onnx
from device_memory import LibraryMemory, Memory
from device_network import DeviceNetwork
from measured_network import Network, WrongResult
from network_work import shapes_of
from node_reference import NodeReference
from plugin_modules import PluginLibrary
from report import (
    CONVOLUTIONS_ALONE,
    INT8_MATMULS,
    OURS,
    OURS_BINARY,
    OURS_TENSORRT,
    TENSORRT_FLOAT16,
    TENSORRT_INT8,
    TORCH_FLOAT16,
)
from slots import Array, Library, driver
from torch_peers import DEVICE, TorchRecording, graph_nodes
from turns import Contender, DryRecording, GraphRecording, Recording, noted

SAME_NETWORK = 0.9  # correlation of outputs; signs that float16 turns leave more than that, errors less


class Contenders:
    """All of one network at one batch.

    Args:
        network: See there.
        batch: Images.
        library: What has the memory that plugins work on, and records where there is no PyTorch.
        stack: Frees everything at its end.
        options: Of `measure_networks.py`.

    Attributes:
        floats: Who computes our float nodes; empty where only the 1-bit part is timed.
        failures: Name -> why it is not timed.
        agreement: Name -> see `Network.agreement`.
    """

    def __init__(
        self, network: Network, batch: int, library: Library, stack: ExitStack, options: argparse.Namespace
    ) -> None:
        self._network, self._batch, self._library, self._stack = network, batch, library, stack
        self._torch, self._dry, self._tensorrt = options.torch, options.dry_run, options.tensorrt
        self._plugin: Path = options.plugin
        self._plugins = PluginLibrary(self._plugin.with_name("libbnn_plugin_host.so"), self._plugin)
        self._feeds = network.feeds(batch)
        self.floats = ""
        self.failures: dict[str, str] = {}
        self.agreement: dict[str, float] = {}
        self._runs: dict[str, Callable[[], None]] = {}

    def all(self) -> dict[str, Contender]:
        """Those that can be made and compute what they should, by name."""
        makers: dict[str, Callable[[str], Contender]] = {OURS_BINARY: self._binary_part}
        if self._torch:
            makers = {OURS: self._ours, **makers, TORCH_FLOAT16: self._torch_float16}
            makers |= {CONVOLUTIONS_ALONE: self._products, INT8_MATMULS: self._products}
        if self._torch and self._tensorrt and not self._dry:
            makers |= dict.fromkeys((OURS_TENSORRT, TENSORRT_FLOAT16, TENSORRT_INT8), self._engine)
        found: dict[str, Contender] = {}
        for name, make in makers.items():
            with noted(self.failures, name):
                found[name] = make(name)
        return found

    def launches(self) -> dict[str, int]:
        """Name -> kernels and copies of a run, of those that PyTorch has recorded."""
        if self._dry or not self._torch:
            return {}
        found: dict[str, int] = {}
        for name, run in self._runs.items():
            with noted(self.failures, f"{name}, launches"):
                count = graph_nodes(run)
                found |= {name: count} if count is not None else {}
        return found

    def _memory(self, constants: Mapping[str, Array], reference: NodeReference) -> Memory:
        held: driver.Memory = self._stack.enter_context(self._library.memory())
        if not self._torch:
            return LibraryMemory(held, reference, constants)
        from torch_memory import TorchMemory

        return TorchMemory(constants, "cpu" if self._dry else DEVICE, held if self._dry else None)

    def _device_network(self, model: onnx.ModelProto) -> tuple[DeviceNetwork, NodeReference, Memory]:
        reference = self._network.reference(model)
        constants = reference.constants
        memory = self._memory(constants, reference)
        network = DeviceNetwork(model, self._plugins, memory, constants, self._feeds)
        self._stack.callback(network.close)
        return network, reference, memory

    def _ours(self, name: str) -> Contender:
        network, reference, memory = self._device_network(self._network.model)
        self.floats = memory.floats
        self._check(name, network, reference, self._recorded(lambda: network.run(keep=True), 1))
        return self._by_torch(name, network.run)

    def _binary_part(self, name: str) -> Contender:
        network, reference, memory = self._device_network(self._network.model)
        network.run(keep=True)

        def run() -> None:
            network.run_plugins(memory.stream())

        def launch(_: int, stream: int | None) -> None:
            network.run_plugins(stream)

        def record(runs: int) -> Recording:
            if self._torch or self._dry:
                return self._recorded(run, runs)
            return GraphRecording(self._library, launch, 1, runs)

        network.spoil()
        recording = record(1)
        if not self._dry:  # a replay has to write it all again
            network.spoil()
        self._check(name, network, reference, recording)
        return Contender(record, slots=1)

    def _torch_float16(self, name: str) -> Contender:
        network, reference, _ = self._device_network(self._network.twin)
        self._check(name, network, reference, self._recorded(lambda: network.run(keep=True), 1))
        return self._by_torch(name, network.run)

    def _products(self, name: str) -> Contender:
        from network_peers import convolutions_alone, int8_matmuls, products

        make = convolutions_alone if name == CONVOLUTIONS_ALONE else int8_matmuls
        twin = self._network.twin
        run = make(list(products(twin, shapes_of(twin, self._batch))), "cpu" if self._dry else DEVICE)
        return self._by_torch(name, run)

    def _engine(self, name: str) -> Contender:
        from network_engines import EngineContender, int8_twin

        models = {OURS_TENSORRT: lambda: self._network.model, TENSORRT_FLOAT16: lambda: self._network.twin}
        make = models.get(name, lambda: int8_twin(self._network.twin32, self._network.feeds(2)))
        engine = EngineContender(make(), self._feeds, self._plugin if name == OURS_TENSORRT else None)
        self._stack.callback(engine.close)
        ends = np.unique([0, self._batch - 1])
        outputs = {output: array[ends] for output, array in engine.outputs().items()}
        self._agree(name, outputs, least=-1.0 if name == TENSORRT_INT8 else SAME_NETWORK)
        return engine.contender()

    def _by_torch(self, name: str, run: Callable[[], None]) -> Contender:
        self._runs[name] = run
        return Contender(lambda runs: self._recorded(run, runs), slots=1)

    def _recorded(self, run: Callable[[], None], runs: int) -> Recording:
        """By PyTorch, or in a dry run by nobody."""
        return DryRecording(lambda slot, stream: run(), 1, runs) if self._dry else TorchRecording([run], runs)

    def _check(self, name: str, network: DeviceNetwork, reference: NodeReference, recording: Recording) -> None:
        """Replays a run that keeps its values, and judges every one of them."""
        try:
            recording.milliseconds()
            read = network.reader()
            wrong = reference.wrong_nodes(read)
            if wrong:
                raise WrongResult(f"{'; '.join(wrong)}; not timed")
            self._agree(name, {output.name: read(output.name) for output in self._network.model.graph.output})
        finally:
            recording.close()

    def _agree(self, name: str, outputs: Mapping[str, Array], least: float = -1.0) -> None:
        """Notes how near outputs are to the right ones. least: nearer than this they have to be."""
        found = self._network.agreement(outputs, self._batch)
        self.agreement[name] = round(found, 6)
        if found < least:
            raise WrongResult(f"its outputs have a correlation of {found:.3f} with the right ones; not timed")
