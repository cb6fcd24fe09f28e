"""By `pycuda`, in the thread that imports it first: its context is current there alone."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray
from pycuda import autoprimaryctx, driver

from bnn_deploy.errors import InputRefused
from bnn_deploy.gpu.device import Buffer, Graph, Stream


class PyCudaBuffer:
    """Of `mem_alloc`."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes = max(nbytes, 1)
        self._allocation = driver.mem_alloc(self.nbytes)
        self.address = int(self._allocation)


class PyCudaStream:
    """A blocking stream: copies, which are on the default one, wait for it and it for them."""

    def __init__(self) -> None:
        self._stream = driver.Stream()
        self.handle = int(self._stream.handle)

    def allocate(self, nbytes: int) -> Buffer:
        return PyCudaBuffer(nbytes)

    def upload(self, array: NDArray[Any], buffer: Buffer) -> None:
        driver.memcpy_htod(buffer.address, array)

    def download(self, buffer: Buffer, array: NDArray[Any]) -> None:
        driver.memcpy_dtoh(array, buffer.address)

    def synchronize(self) -> None:
        self._stream.synchronize()

    def wait_for_caller(self) -> None:
        driver.Context.synchronize()

    def let_caller_wait(self) -> None:
        self.synchronize()

    def new_graph(self) -> Graph:
        raise InputRefused("a CUDA graph", "pycuda has none", "PyTorch or cuda-python", "pip install cuda-python")


class PyCudaGpu:
    """The device of the primary context."""

    def __init__(self) -> None:
        major, minor = autoprimaryctx.device.compute_capability()
        self.compute_capability = f"{major}.{minor}"

    def new_stream(self) -> Stream:
        return PyCudaStream()
