"""The GPU's memory and streams, by whichever package is there: PyTorch, `cuda-python`, or `pycuda`.

TensorRT brings none. All that running an engine takes is here; the rest of the room knows no CUDA.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bnn_deploy.errors import InputRefused


class Buffer(Protocol):
    """A stretch of device memory. Freed with the object."""

    @property
    def address(self) -> int:
        """Where it is."""
        ...

    @property
    def nbytes(self) -> int:
        """How long it is."""
        ...


class Graph(Protocol):
    """A CUDA graph."""

    def capture(self, work: Callable[[], None]) -> None:
        """Records what `work` puts on the stream, in place of what was recorded before."""
        ...

    def launch(self) -> None:
        """Puts the recorded work on the stream."""
        ...


class Gpu(Protocol):
    """The current GPU, and one stream of it."""

    @property
    def stream(self) -> int:
        """The stream's handle."""
        ...

    @property
    def compute_capability(self) -> str:
        """As `9.0`."""
        ...

    def allocate(self, nbytes: int) -> Buffer:
        """A buffer of at least that many bytes."""
        ...

    def upload(self, array: NDArray[Any], buffer: Buffer) -> None:
        """Copies a contiguous array to the GPU, on the stream."""
        ...

    def download(self, buffer: Buffer, array: NDArray[Any]) -> None:
        """Copies into `array`, on the stream."""
        ...

    def synchronize(self) -> None:
        """Waits for the stream."""
        ...

    def new_graph(self) -> Graph:
        """An empty graph of work on the stream.

        Raises:
            InputRefused: The package has no graphs.
        """
        ...


class _TorchBuffer:
    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor

    @property
    def address(self) -> int:
        return int(self.tensor.data_ptr())

    @property
    def nbytes(self) -> int:
        return int(self.tensor.numel())


class TorchGpu:
    """By PyTorch."""

    def __init__(self) -> None:
        torch = import_module("torch")
        if not torch.cuda.is_available():
            raise InputRefused("TensorRT", "PyTorch finds no GPU", "a machine with one, and PyTorch built for CUDA")
        self._torch, self._stream = torch, torch.cuda.Stream()
        major, minor = torch.cuda.get_device_capability()
        self.compute_capability = f"{major}.{minor}"

    @property
    def stream(self) -> int:
        return int(self._stream.cuda_stream)

    def allocate(self, nbytes: int) -> Buffer:
        return _TorchBuffer(self._torch.empty(max(nbytes, 1), dtype=self._torch.uint8, device="cuda"))

    def upload(self, array: NDArray[Any], buffer: Any) -> None:
        source = self._torch.from_numpy(array.reshape(-1).view(np.uint8))
        with self._torch.cuda.stream(self._stream):
            buffer.tensor[: array.nbytes].copy_(source)

    def download(self, buffer: Any, array: NDArray[Any]) -> None:
        target = self._torch.from_numpy(array.reshape(-1).view(np.uint8))
        with self._torch.cuda.stream(self._stream):
            target.copy_(buffer.tensor[: array.nbytes])

    def synchronize(self) -> None:
        self._stream.synchronize()

    def new_graph(self) -> Graph:
        return _TorchGraph(self._torch, self._stream)


class _TorchGraph:
    def __init__(self, torch: Any, stream: Any) -> None:
        self._torch, self._stream = torch, stream
        self._graph: Any = None

    def capture(self, work: Callable[[], None]) -> None:
        self._stream.synchronize()
        self._graph = self._torch.cuda.CUDAGraph()
        with self._torch.cuda.graph(self._graph, stream=self._stream):
            work()

    def launch(self) -> None:
        with self._torch.cuda.stream(self._stream):
            self._graph.replay()


class _CudaPythonBuffer:
    def __init__(self, gpu: CudaPythonGpu, nbytes: int) -> None:
        self._gpu, self.nbytes = gpu, nbytes
        self.address = int(gpu.call("cudaMalloc", max(nbytes, 1)))

    def __del__(self) -> None:
        self._gpu.call("cudaFree", self.address)


class CudaPythonGpu:
    """By NVIDIA's `cuda-python` (or `cuda-bindings`). runtime: its module."""

    def __init__(self) -> None:
        self.runtime = import_module("cuda.bindings.runtime")
        device = self.call("cudaGetDevice")
        kinds = self.runtime.cudaDeviceAttr
        major = self.call("cudaDeviceGetAttribute", kinds.cudaDevAttrComputeCapabilityMajor, device)
        minor = self.call("cudaDeviceGetAttribute", kinds.cudaDevAttrComputeCapabilityMinor, device)
        self.compute_capability = f"{major}.{minor}"
        self._stream = self.call("cudaStreamCreate")

    def call(self, function: str, *arguments: Any) -> Any:
        """Calls a function of the CUDA runtime; what it returns besides its status.

        Raises:
            InputRefused: The status is an error.
        """
        status, *results = getattr(self.runtime, function)(*arguments)
        if int(status) != 0:
            _, text = self.runtime.cudaGetErrorString(status)
            raise InputRefused("TensorRT", f"{function}: {text.decode()}", "a GPU and its driver")
        return results[0] if results else None

    @property
    def stream(self) -> int:
        return int(self._stream)

    def allocate(self, nbytes: int) -> Buffer:
        return _CudaPythonBuffer(self, nbytes)

    def upload(self, array: NDArray[Any], buffer: Buffer) -> None:
        kind = self.runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self.call("cudaMemcpyAsync", buffer.address, array.ctypes.data, array.nbytes, kind, self._stream)

    def download(self, buffer: Buffer, array: NDArray[Any]) -> None:
        kind = self.runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self.call("cudaMemcpyAsync", array.ctypes.data, buffer.address, array.nbytes, kind, self._stream)

    def synchronize(self) -> None:
        self.call("cudaStreamSynchronize", self._stream)

    def new_graph(self) -> Graph:
        return _CudaPythonGraph(self)


class _CudaPythonGraph:
    def __init__(self, gpu: CudaPythonGpu) -> None:
        self._gpu = gpu
        self._executable: Any = None

    def capture(self, work: Callable[[], None]) -> None:
        mode = self._gpu.runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._gpu.call("cudaStreamBeginCapture", self._gpu.stream, mode)
        try:
            work()
        finally:
            graph = self._gpu.call("cudaStreamEndCapture", self._gpu.stream)
        if self._executable is not None:
            self._gpu.call("cudaGraphExecDestroy", self._executable)
        self._executable = self._gpu.call("cudaGraphInstantiate", graph, 0)
        self._gpu.call("cudaGraphDestroy", graph)

    def launch(self) -> None:
        self._gpu.call("cudaGraphLaunch", self._executable, self._gpu.stream)


class _PyCudaBuffer:
    def __init__(self, allocation: Any, nbytes: int) -> None:
        self._allocation, self.nbytes = allocation, nbytes
        self.address = int(allocation)


class PyCudaGpu:
    """By `pycuda`."""

    def __init__(self) -> None:
        self._driver = import_module("pycuda.driver")
        try:
            import_module("pycuda.autoprimaryctx")
        except self._driver.Error as error:
            raise InputRefused("TensorRT", f"pycuda: {error}", "a GPU and its driver") from error
        self._stream = self._driver.Stream()
        major, minor = self._driver.Context.get_device().compute_capability()
        self.compute_capability = f"{major}.{minor}"

    @property
    def stream(self) -> int:
        return int(self._stream.handle)

    def allocate(self, nbytes: int) -> Buffer:
        return _PyCudaBuffer(self._driver.mem_alloc(max(nbytes, 1)), nbytes)

    def upload(self, array: NDArray[Any], buffer: Buffer) -> None:
        self._driver.memcpy_htod_async(buffer.address, array, self._stream)

    def download(self, buffer: Buffer, array: NDArray[Any]) -> None:
        self._driver.memcpy_dtoh_async(array, buffer.address, self._stream)

    def synchronize(self) -> None:
        self._stream.synchronize()

    def new_graph(self) -> Graph:
        raise InputRefused("a CUDA graph", "pycuda has none", "PyTorch or cuda-python", "pip install cuda-python")


_KINDS: tuple[tuple[str, Callable[[], Gpu]], ...] = (
    ("PyTorch", TorchGpu),
    ("cuda-python", CudaPythonGpu),
    ("pycuda", PyCudaGpu),
)


def open_gpu() -> Gpu:
    """The first of the three packages that is installed and finds a GPU.

    Raises:
        InputRefused: None does; the message has the reason of each.
    """
    reasons = []
    for package, kind in _KINDS:
        try:
            return kind()
        except ImportError:
            reasons.append(f"{package} is not installed")
        except InputRefused as error:
            reasons.append(error.found)
        except RuntimeError as error:  # a driver that is too old, or none, by the package's own words
            reasons.append(f"{package}: {error}")
    raise InputRefused(
        "TensorRT", f"engines run on a GPU, and there is none to be had: {'; '.join(reasons)}", "a GPU and its driver"
    )
