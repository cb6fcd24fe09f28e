"""By NVIDIA's `cuda-python` (`cuda-bindings`)."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from cuda.bindings import runtime
from numpy.typing import NDArray

from bnn_deploy.errors import InputRefused
from bnn_deploy.gpu.device import Buffer, Graph, Stream


def call(function: str, *arguments: Any) -> Any:
    """Calls a function of the CUDA runtime; what it returns besides its status.

    Raises:
        InputRefused: The status is an error.
    """
    status, *results = getattr(runtime, function)(*arguments)
    if int(status) != 0:
        _, text = runtime.cudaGetErrorString(status)
        raise InputRefused("cuda-python", f"{function}: {text.decode()}", "a GPU and its driver")
    return results[0] if results else None


def _release(function: str, handle: Any) -> None:
    """Frees something. When the process ends the driver may be gone first, and its complaint is nobody's business."""
    getattr(runtime, function)(handle)


class CudaPythonBuffer:
    """Of `cudaMalloc`."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes = max(nbytes, 1)
        self.address = int(call("cudaMalloc", self.nbytes))
        weakref.finalize(self, _release, "cudaFree", self.address)


class CudaPythonStream:
    """A blocking stream. What streams a caller has is not known here, so that one waits for all of them."""

    def __init__(self) -> None:
        self._stream = call("cudaStreamCreate")
        self.handle = int(self._stream)
        weakref.finalize(self, _release, "cudaStreamDestroy", self._stream)

    def allocate(self, nbytes: int) -> Buffer:
        return CudaPythonBuffer(nbytes)

    def upload(self, array: NDArray[Any], buffer: Buffer) -> None:
        kind = runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        call("cudaMemcpyAsync", buffer.address, array.ctypes.data, array.nbytes, kind, self._stream)

    def download(self, buffer: Buffer, array: NDArray[Any]) -> None:
        kind = runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        call("cudaMemcpyAsync", array.ctypes.data, buffer.address, array.nbytes, kind, self._stream)

    def synchronize(self) -> None:
        call("cudaStreamSynchronize", self._stream)

    def wait_for_caller(self) -> None:
        call("cudaDeviceSynchronize")

    def let_caller_wait(self) -> None:
        self.synchronize()

    def new_graph(self) -> Graph:
        return CudaPythonGraph(self)


class CudaPythonGraph:
    """A `cudaGraphExec_t`. It keeps its stream."""

    def __init__(self, stream: CudaPythonStream) -> None:
        self._stream = stream
        self._executable: Any = None
        self._release: Any = None

    def capture(self, work: Callable[[], None]) -> None:
        mode = runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        call("cudaStreamBeginCapture", self._stream.handle, mode)
        try:
            work()
        except BaseException:
            runtime.cudaStreamEndCapture(self._stream.handle)  # its own complaint would hide the reason
            raise
        graph = call("cudaStreamEndCapture", self._stream.handle)
        if self._release is not None:
            self._release()
        self._executable = call("cudaGraphInstantiate", graph, 0)
        self._release = weakref.finalize(self, _release, "cudaGraphExecDestroy", self._executable)
        call("cudaGraphDestroy", graph)

    def launch(self) -> None:
        call("cudaGraphLaunch", self._executable, self._stream.handle)


class CudaPythonGpu:
    """The CUDA runtime's current device."""

    def __init__(self) -> None:
        device, kinds = call("cudaGetDevice"), runtime.cudaDeviceAttr
        major = call("cudaDeviceGetAttribute", kinds.cudaDevAttrComputeCapabilityMajor, device)
        minor = call("cudaDeviceGetAttribute", kinds.cudaDevAttrComputeCapabilityMinor, device)
        self.compute_capability = f"{major}.{minor}"

    def new_stream(self) -> Stream:
        return CudaPythonStream()
