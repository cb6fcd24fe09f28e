"""By PyTorch, whose tensors are used as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bnn_deploy.errors import InputRefused
from bnn_deploy.gpu.device import Buffer, Graph, Stream


class PyTorchBuffer:
    """A tensor of bytes."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor
        self.address, self.nbytes = int(tensor.data_ptr()), int(tensor.numel())


class PyTorchStream:
    """A stream beside PyTorch's current one, which is the caller's."""

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()
        self.handle = int(self._stream.cuda_stream)

    def allocate(self, nbytes: int) -> Buffer:
        with torch.cuda.stream(self._stream):  # what is freed, PyTorch gives to work on the same stream only
            return PyTorchBuffer(torch.empty(max(nbytes, 1), dtype=torch.uint8, device="cuda"))

    def upload(self, array: NDArray[Any], buffer: Any) -> None:
        source = array if array.flags.writeable else array.copy()  # PyTorch has no tensors that cannot be written
        with torch.cuda.stream(self._stream):
            buffer.tensor[: array.nbytes].copy_(torch.from_numpy(_bytes_of(source)))

    def download(self, buffer: Any, array: NDArray[Any]) -> None:
        with torch.cuda.stream(self._stream):
            torch.from_numpy(_bytes_of(array)).copy_(buffer.tensor[: array.nbytes])

    def synchronize(self) -> None:
        self._stream.synchronize()

    def wait_for_caller(self) -> None:
        self._stream.wait_stream(torch.cuda.current_stream())

    def let_caller_wait(self) -> None:
        torch.cuda.current_stream().wait_stream(self._stream)

    def new_graph(self) -> Graph:
        return PyTorchGraph(self._stream)


class PyTorchGraph:
    """A `torch.cuda.CUDAGraph`."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._graph: Any = None

    def capture(self, work: Callable[[], None]) -> None:
        self._graph = torch.cuda.CUDAGraph()
        # Other threads may go on allocating memory meanwhile.
        with torch.cuda.graph(self._graph, stream=self._stream, capture_error_mode="thread_local"):
            work()

    def launch(self) -> None:
        with torch.cuda.stream(self._stream):
            self._graph.replay()


class PyTorchGpu:
    """PyTorch's current device."""

    def __init__(self) -> None:
        if not torch.cuda.is_available():
            raise InputRefused("PyTorch", "it finds no GPU", "a GPU, and PyTorch built for CUDA")
        major, minor = torch.cuda.get_device_capability()
        self.compute_capability = f"{major}.{minor}"

    def new_stream(self) -> Stream:
        return PyTorchStream()


def _bytes_of(array: NDArray[Any]) -> NDArray[np.uint8]:
    return array.reshape(-1).view(np.uint8)
