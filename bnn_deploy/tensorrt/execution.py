"""Running an engine: one execution context, its buffers, and a CUDA graph where that is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnn_deploy.errors import CheckFailed, InputRefused
from bnn_deploy.tensorrt.device import Buffer, Gpu, open_gpu
from bnn_deploy.tensorrt.metadata import check_fits, read_engine
from bnn_deploy.tensorrt.plugin import VERSION, find_plugin, load_plugin
from bnn_deploy.tensorrt.sdk import load_sdk, logger, said, title

Arrays = dict[str, NDArray[Any]]


class LoadedEngine:
    """An engine on the GPU. Contexts made of it share its weights.

    Args:
        plan: What `build_serialized_engine` returned.
        gpu: Where; the GPU there is, by default.

    Raises:
        InputRefused: There is no GPU.
        CheckFailed: TensorRT does not deserialize the plan; with its own message.
    """

    def __init__(self, plan: bytes, gpu: Gpu | None = None) -> None:
        self.gpu = gpu if gpu is not None else open_gpu()
        self.sdk = load_sdk()
        if (plugin := find_plugin()) is not None:
            load_plugin(plugin)
        log = logger(self.sdk)
        log.take_errors()
        self._runtime = self.sdk.Runtime(log)
        self.engine = self._runtime.deserialize_cuda_engine(plan)
        if self.engine is None:
            raise CheckFailed(f"{title(self.sdk)} does not load the engine: {said(log.take_errors())}")

    @classmethod
    def from_file(cls, path: Path) -> LoadedEngine:
        """The engine of a file that `build_engine` wrote.

        Raises:
            InputRefused: The file is damaged, was built for another GPU or another version, or there is no GPU.
        """
        plan, metadata = read_engine(path)
        gpu, sdk = open_gpu(), load_sdk()
        check_fits(
            path,
            metadata,
            sdk=sdk.__name__,
            sdk_version=sdk.__version__,
            plugin_version=VERSION,
            compute_capability=gpu.compute_capability,
        )
        return cls(plan, gpu)

    def names(self, mode: str) -> list[str]:
        """Its tensors of a mode, `INPUT` or `OUTPUT`, in order."""
        wanted = getattr(self.sdk.TensorIOMode, mode)
        names = [self.engine.get_tensor_name(index) for index in range(self.engine.num_io_tensors)]
        return [name for name in names if self.engine.get_tensor_mode(name) == wanted]

    def dtype(self, name: str) -> np.dtype[Any]:
        """The type of a tensor."""
        return np.dtype(self.sdk.nptype(self.engine.get_tensor_dtype(name)))


class Execution:
    """A context of an engine, with buffers that grow as shapes do. Not for two threads at once: make one for each.

    Args:
        loaded: The engine.
        graph: Whether to capture a run into a CUDA graph and launch that from then on, anew for each set of shapes.
    """

    def __init__(self, loaded: LoadedEngine, *, graph: bool = False) -> None:
        self._loaded, self._gpu = loaded, loaded.gpu
        self._context = loaded.engine.create_execution_context()
        if self._context is None:
            raise CheckFailed(f"no execution context: {said(logger(loaded.sdk).take_errors())}")
        self._buffers: dict[str, Buffer] = {}
        self._graph = self._gpu.new_graph() if graph else None
        self._shapes: dict[str, tuple[int, ...]] = {}

    def infer(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        """Runs once. feeds: input name -> array; they are brought to the engine's types.

        Raises:
            InputRefused: A shape is outside the engine's profile.
            CheckFailed: The run failed; with TensorRT's own message.
        """
        shapes = {name: feed.shape for name, feed in feeds.items()}
        changed = shapes != self._shapes
        for name, feed in feeds.items():
            self._set_shape(name, feed.shape)
            array = np.ascontiguousarray(feed, self._loaded.dtype(name))
            self._gpu.upload(array, self._buffer(name, array.nbytes))
        outputs = {name: self._output(name) for name in self._loaded.names("OUTPUT")}
        self._run(changed)
        self._shapes = shapes
        for name, array in outputs.items():
            self._gpu.download(self._buffers[name], array)
        self._gpu.synchronize()
        return outputs

    def _set_shape(self, name: str, shape: tuple[int, ...]) -> None:
        if not self._context.set_input_shape(name, shape):
            minimum, _, maximum = self._loaded.engine.get_tensor_profile_shape(name, 0)
            raise InputRefused(
                f"input {name!r}",
                f"shape {'x'.join(map(str, shape))}",
                f"between {'x'.join(map(str, minimum))} and {'x'.join(map(str, maximum))}, the engine's profile",
                "build an engine with a profile that has it",
            )

    def _output(self, name: str) -> NDArray[Any]:
        array = np.empty(tuple(self._context.get_tensor_shape(name)), self._loaded.dtype(name))
        self._buffer(name, array.nbytes)
        return array

    def _buffer(self, name: str, nbytes: int) -> Buffer:
        buffer = self._buffers.get(name)
        if buffer is None or buffer.nbytes < nbytes:
            self._shapes = {}  # a graph holds the address of the old one
            self._buffers[name] = buffer = self._gpu.allocate(nbytes)
        self._context.set_tensor_address(name, buffer.address)
        return buffer

    def _run(self, changed: bool) -> None:
        if self._graph is None:
            return self._enqueue()
        if changed or not self._shapes:
            self._enqueue()  # what is set up at the first run must not become part of the graph
            self._graph.capture(self._enqueue)
        self._graph.launch()
        return None

    def _enqueue(self) -> None:
        log = logger(self._loaded.sdk)
        log.take_errors()
        if not self._context.execute_async_v3(self._gpu.stream):
            raise CheckFailed(f"{title(self._loaded.sdk)} failed to run the engine: {said(log.take_errors())}")
