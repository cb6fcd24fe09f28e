"""Running an engine: an execution context, its buffers, its stream, and a CUDA graph where that is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnn_deploy.errors import CheckFailed, InputRefused
from bnn_deploy.gpu import Buffer, DeviceArray, Graph
from bnn_deploy.runners.base import Arrays, RunnerBase, check_feeds
from bnn_deploy.tensorrt.loaded import LoadedEngine, Shape
from bnn_deploy.tensorrt.sdk import logger, said, title

ALIGNMENT = 256  # of what TensorRT reads and writes, in bytes
_WHERE = "the engine"


class Execution(RunnerBase):
    """A context of an engine, with a stream of its own and buffers that grow as shapes do.

    Several of one engine share its weights and may run at once, each in one thread at a time.

    Args:
        loaded: The engine.
        graph: Whether to capture a run into a CUDA graph and launch that from then on. A run with other shapes, or with
            arrays that lie elsewhere, is captured anew.

    Raises:
        CheckFailed: TensorRT makes no context; with its own message.
    """

    def __init__(self, loaded: LoadedEngine, *, graph: bool = False) -> None:
        log = logger(loaded.sdk)
        log.take_errors()
        self._loaded = loaded
        self._stream = loaded.gpu.new_stream()
        self._context = loaded.engine.create_execution_context()
        if self._context is None:
            raise CheckFailed(f"{title(loaded.sdk)} makes no execution context: {said(log.take_errors())}")
        if hasattr(self._context, "nvtx_verbosity"):  # of use to a profiler alone, and not free
            self._context.nvtx_verbosity = loaded.sdk.ProfilingVerbosity.NONE
        self._graph: Graph | None = self._stream.new_graph() if graph else None
        self._buffers: dict[str, Buffer] = {}
        self._addresses: dict[str, int] = {}
        self._shapes: dict[str, Shape] = {}
        self._captured: object = None

    def close(self) -> None:
        """Waits for what runs, and frees all but the engine, which others may use. Nothing can be run any more."""
        self._stream.synchronize()
        self._graph, self._context = None, None
        self._buffers.clear()

    def __exit__(self, *_: object) -> None:
        self.close()

    def infer(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        """Runs once. feeds: input name -> array; returns output name -> array.

        An array of another precision than the input's is brought to it.

        Raises:
            InputRefused: An input is missing, unknown, of another kind of number, or of a shape that no profile has.
            CheckFailed: The run failed; with TensorRT's own message.
        """
        check_feeds(_WHERE, feeds, self._loaded.inputs)
        arrays = {name: _converted(name, feed, self._loaded.dtype(name)) for name, feed in feeds.items()}
        self._set_shapes({name: feed.shape for name, feed in feeds.items()})
        for name, array in arrays.items():
            self._stream.upload(array, self._buffer(name, array.nbytes))
        outputs = {name: np.empty(self._shape(name), self._loaded.dtype(name)) for name in self._loaded.outputs}
        for name, array in outputs.items():
            self._buffer(name, array.nbytes)
        self._run()
        for name, array in outputs.items():
            self._stream.download(self._buffers[name], array)
        self._stream.synchronize()
        return outputs

    def infer_device(self, feeds: Mapping[str, Any]) -> dict[str, DeviceArray]:
        """Runs once on what is on the GPU already, without a copy.

        With PyTorch the run is ordered with its current stream on both sides, and this returns before it ends.

        Args:
            feeds: Input name -> array with `__cuda_array_interface__`, as PyTorch's, CuPy's and Numba's: C-contiguous,
                of the input's type, at an address divisible by 256. It has to live until the run ends.

        Returns:
            Output name -> array, overwritten by the next run. `torch.as_tensor(array, device="cuda")` makes a tensor of
            one, without a copy either.

        Raises:
            InputRefused: An input is missing, unknown, or not such an array, or of a shape that no profile has.
            CheckFailed: The run failed; with TensorRT's own message.
        """
        arrays = {name: DeviceArray.of(f"input {name!r}", feed) for name, feed in feeds.items()}
        check_feeds(_WHERE, arrays, self._loaded.inputs)
        for name, array in arrays.items():
            _check_as_it_is(name, array, self._loaded.dtype(name))
        self._set_shapes({name: array.shape for name, array in arrays.items()})
        for name, array in arrays.items():
            self._set_address(name, array.address)
        outputs = {name: self._output(name) for name in self._loaded.outputs}
        self._stream.wait_for_caller()
        self._run()
        self._stream.let_caller_wait()
        return outputs

    def _set_shapes(self, shapes: dict[str, Shape]) -> None:
        if shapes == self._shapes:
            return
        self._shapes = {}
        profile = self._loaded.profile_for(shapes)
        if profile != self._context.active_optimization_profile:
            if not self._context.set_optimization_profile_async(profile, self._stream.handle):
                raise self._failure(f"does not switch to profile {profile}")
            self._stream.synchronize()
            self._addresses.clear()
        for name, shape in shapes.items():
            if not self._context.set_input_shape(name, shape):
                raise self._failure(f"does not take the shape {shape} of input {name!r}")
        self._shapes = shapes

    def _shape(self, name: str) -> Shape:
        """What an output has with the inputs as they are."""
        return tuple(self._context.get_tensor_shape(name))

    def _output(self, name: str) -> DeviceArray:
        shape, dtype = self._shape(name), self._loaded.dtype(name)
        buffer = self._buffer(name, int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)
        return DeviceArray(buffer.address, shape, dtype, buffer)

    def _buffer(self, name: str, nbytes: int) -> Buffer:
        """The buffer of a tensor, made longer where it is too short."""
        buffer = self._buffers.get(name)
        if buffer is None or buffer.nbytes < nbytes:
            self._buffers[name] = buffer = self._stream.allocate(nbytes)
        self._set_address(name, buffer.address)
        return buffer

    def _set_address(self, name: str, address: int) -> None:
        if self._addresses.get(name) == address:
            return
        if not self._context.set_tensor_address(name, address):
            raise self._failure(f"does not take the address of {name!r}")
        self._addresses[name] = address

    def _run(self) -> None:
        if self._graph is None:
            return self._enqueue()
        situation = (self._shapes, dict(self._addresses))
        if situation == self._captured:
            return self._graph.launch()
        self._captured = None
        self._enqueue()  # also sets up what must not be part of the graph
        self._check_capturable()
        self._graph.capture(self._enqueue)
        self._captured = situation
        return None

    def _check_capturable(self) -> None:
        ask = getattr(self._context, "is_stream_capturable", None)  # TensorRT-RTX alone has it
        if ask is not None and not ask(self._stream.handle):
            found = f"{title(self._loaded.sdk)} cannot make one of this engine"
            raise InputRefused("a CUDA graph", found, fix="run without")

    def _enqueue(self) -> None:
        logger(self._loaded.sdk).take_errors()
        if not self._context.execute_async_v3(self._stream.handle):
            raise self._failure("failed to run the engine")

    def _failure(self, what: str) -> CheckFailed:
        return CheckFailed(f"{title(self._loaded.sdk)} {what}: {said(logger(self._loaded.sdk).take_errors())}")


def _converted(name: str, array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    if not np.can_cast(array.dtype, dtype, "same_kind"):
        raise InputRefused(f"input {name!r}", f"type {array.dtype}", f"{dtype}", f"array.astype(numpy.{dtype})")
    return np.ascontiguousarray(array, dtype)


def _check_as_it_is(name: str, array: DeviceArray, dtype: np.dtype[Any]) -> None:
    if array.dtype != dtype:
        raise InputRefused(f"input {name!r}", f"type {array.dtype}", f"{dtype}: nothing is converted on the GPU")
    if array.address % ALIGNMENT:
        found = f"it begins {array.address % ALIGNMENT} bytes behind a multiple of {ALIGNMENT}"
        raise InputRefused(f"input {name!r}", found, "an array that was allocated as such, and is no part of one")
