"""What running an engine takes of a GPU. Each package that has it is a file beside this one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
        """Records what `work` puts on the stream, in place of what was recorded before. Nothing of it runs."""
        ...

    def launch(self) -> None:
        """Puts the recorded work on the stream."""
        ...


class Stream(Protocol):
    """A queue of work, done in order."""

    @property
    def handle(self) -> int:
        """The `cudaStream_t`."""
        ...

    def allocate(self, nbytes: int) -> Buffer:
        """A buffer of that many bytes for work on this stream, at least of one."""
        ...

    def upload(self, array: NDArray[Any], buffer: Buffer) -> None:
        """Copies a contiguous array to the GPU. It may change as soon as this returns."""
        ...

    def download(self, buffer: Buffer, array: NDArray[Any]) -> None:
        """Copies into a contiguous array, which is complete after `synchronize`."""
        ...

    def synchronize(self) -> None:
        """Waits for all work."""
        ...

    def wait_for_caller(self) -> None:
        """Work from here on starts after what the caller has put on a stream of its own."""
        ...

    def let_caller_wait(self) -> None:
        """What the caller puts on its own stream from here on starts after the work on this one."""
        ...

    def new_graph(self) -> Graph:
        """An empty graph of work on this stream.

        Raises:
            InputRefused: The package has no graphs.
        """
        ...


class Gpu(Protocol):
    """The current GPU."""

    @property
    def compute_capability(self) -> str:
        """As `9.0`."""
        ...

    def new_stream(self) -> Stream:
        """A stream of its own."""
        ...


@dataclass(frozen=True)
class DeviceArray:
    """A C-contiguous array on the GPU, for any library that reads `__cuda_array_interface__`.

    `torch.as_tensor(array, device="cuda")`, `cupy.asarray(array)` and `numba.cuda.as_cuda_array(array)` make one of
    theirs of it without a copy.

    Attributes:
        address: Where it is.
        shape: Sizes.
        dtype: Element type.
        owner: What keeps the memory; None where somebody else does.
    """

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    owner: Buffer | None = None

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Version 3. Without a stream: who gets the array need not wait for one."""
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address, False),
            "strides": None,
            "stream": None,
            "version": 3,
        }

    @classmethod
    def of(cls, where: str, array: Any) -> DeviceArray:
        """A view of an array of another library.

        Args:
            where: For the message.
            array: With `__cuda_array_interface__`, as PyTorch's, CuPy's and Numba's have it.

        Raises:
            InputRefused: It is not on the GPU, or not C-contiguous.
        """
        interface = getattr(array, "__cuda_array_interface__", None)
        if interface is None:
            found = f"{type(array).__module__}.{type(array).__name__}"
            raise InputRefused(where, f"{found}, not on the GPU", "an array with __cuda_array_interface__")
        shape, dtype = tuple(interface["shape"]), np.dtype(interface["typestr"])
        strides = interface.get("strides")
        if strides is not None and tuple(strides) != _contiguous_strides(shape, dtype) and 0 not in shape:
            raise InputRefused(where, f"strides of {tuple(strides)} bytes", "a C-contiguous array", "x.contiguous()")
        return cls(int(interface["data"][0]), shape, dtype)


def _contiguous_strides(shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, ...]:
    strides = []
    step = dtype.itemsize
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))
