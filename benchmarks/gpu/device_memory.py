"""Where the tensors of a network lie while it runs on a GPU, and who computes its float nodes.

- `LibraryMemory`: memory of our library. Float nodes are computed on the host, two images of each batch, which stand
  for all of it: they have values, and no time.
- `TorchMemory` (`torch_memory.py`): PyTorch's. Float nodes run on the GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import onnx
from node_reference import NodeReference
from plugin_modules import LINEAR, Tensor
from slots import Array, driver


class Memory(Protocol):
    """Handles are opaque: a tensor of PyTorch, or `Stored`."""

    floats: str
    """Who computes float nodes, in words; empty where that takes no part in what is timed."""

    def constant(self, array: Array) -> Any:
        """A constant of the network."""

    def feed(self, array: Array) -> Any:
        """An input of the network, [N, ...]."""

    def empty(self, name: str, tensor: Tensor) -> Any:
        """What a plugin writes. In a memory that cannot allocate while a graph is recorded, the same for every run."""

    def arranged(self, handle: Any, tensor: Tensor) -> Any:
        """The same values in the memory format of `tensor`."""

    def address(self, handle: Any) -> int:
        """Where it is."""

    def described(self, handle: Any) -> Tensor:
        """Its shape and type, as a linear tensor."""

    def stream(self) -> int | None:
        """The `cudaStream_t` that work is put on; None is the default one."""

    def compute(self, node: onnx.NodeProto, inputs: Mapping[str, Any]) -> list[Any]:
        """The outputs of a float node."""

    def spoil(self, handle: Any) -> None:
        """Overwrites it: what is right there later has been written anew."""

    def read(self, handle: Any) -> Array:
        """The first and the last image, channels first; the whole of what has one."""


@dataclass(frozen=True)
class Stored:
    """A tensor in memory of the library."""

    tensor: Tensor
    address: int


class LibraryMemory:
    """Memory of `plugins/cuda/driver.py`, on a GPU or of the host executor.

    Args:
        memory: What everything is allocated in, and released with.
        reference: Computes float nodes.
        constants: Of the network.
    """

    floats = ""

    def __init__(self, memory: driver.Memory, reference: NodeReference, constants: Mapping[str, Array]) -> None:
        self._memory, self._reference, self._constants = memory, reference, constants
        self._written: dict[str, Stored] = {}
        self._batch = 1

    def constant(self, array: Array) -> Stored:
        return Stored(Tensor.of(array), self._memory.put(array))

    def feed(self, array: Array) -> Stored:
        self._batch = len(array)
        return self.constant(array)

    def empty(self, name: str, tensor: Tensor) -> Stored:
        if name not in self._written:
            room = np.empty(int(np.prod(tensor.shape)) * np.dtype(tensor.dtype).itemsize, np.uint8)
            self._written[name] = Stored(tensor, self._memory.poisoned(room))
        return self._written[name]

    def arranged(self, handle: Stored, tensor: Tensor) -> Stored:
        if handle.tensor.format == tensor.format:
            return handle
        whole = self._images(handle, range(handle.tensor.shape[0]))
        stored = whole if tensor.format == LINEAR else np.ascontiguousarray(np.moveaxis(whole, 1, -1))
        return Stored(tensor, self._memory.put(stored))

    def address(self, handle: Stored) -> int:
        return handle.address

    def described(self, handle: Stored) -> Tensor:
        return Tensor(handle.tensor.shape, handle.tensor.dtype)

    def stream(self) -> None:
        return None

    def compute(self, node: onnx.NodeProto, inputs: Mapping[str, Stored]) -> list[Stored]:
        arrays = {
            name: self._constants[name] if name in self._constants else self.read(handle)
            for name, handle in inputs.items()
        }
        made = self._reference.run(node, arrays)
        return [
            self.constant(np.ascontiguousarray(np.resize(array, (self._batch, *array.shape[1:])))) for array in made
        ]

    def spoil(self, handle: Stored) -> None:
        size = int(np.prod(handle.tensor.shape)) * np.dtype(handle.tensor.dtype).itemsize
        self._memory.write(np.full(size, driver.POISON, np.uint8), handle.address)

    def read(self, handle: Stored) -> Array:
        batch = handle.tensor.shape[0]
        return self._images(handle, range(0, batch, max(batch - 1, 1)))

    def _images(self, handle: Stored, numbers: range) -> Array:
        """Some images, channels first."""
        tensor = handle.tensor
        shape = tensor.shape[1:] if tensor.format == LINEAR else (*tensor.shape[2:], tensor.shape[1])
        images = np.empty((len(numbers), *shape), tensor.dtype)
        image_bytes = images[0].nbytes
        for image, number in zip(images, numbers, strict=True):
            self._memory.get(image, handle.address + number * image_bytes)
        return images if tensor.format == LINEAR else np.moveaxis(images, -1, 1)
