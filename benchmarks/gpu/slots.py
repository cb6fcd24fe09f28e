"""Copies of a layer's arrays in device memory, for runs to go through in turn.

With one copy, a run finds what the last one left in the L2 cache (*warm*). With as many copies as fill the cache
several times over, it finds nothing (*cold*).
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

sys.path.append(str(Path(__file__).resolve().parents[2] / "plugins" / "cuda"))

import driver

PLUGINS = Path(driver.__file__).resolve().parents[1]
Array = NDArray[Any]
Pointer = ctypes.c_void_p
Library = driver.Library

ALIGNMENT = 256
CACHES = 3  # how many times over the copies fill the L2 cache
MOST_SLOTS = 512


def cold_slots(set_bytes: int, l2_bytes: int) -> int:
    """How many copies a set of arrays is needed in, so that none is left in the cache when it is used again."""
    return min(-(-CACHES * l2_bytes // set_bytes), MOST_SLOTS) if l2_bytes else 1


class Slots:
    """`count` copies of `arrays`, one behind the other."""

    def __init__(self, library: Library, arrays: Mapping[str, Array], count: int) -> None:
        self._library, self._arrays, self.count = library, arrays, count
        self._offsets: dict[str, int] = {}
        end = 0
        for name, array in arrays.items():
            self._offsets[name] = end
            end += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
        self._set_bytes = end
        self._memory = Pointer()
        library.call("bnn_cuda_allocate", ctypes.c_size_t(end * count), ctypes.byref(self._memory))
        for slot in range(count):
            for name, array in arrays.items():
                self.write(name, slot, array)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._library.call("bnn_cuda_release", self._memory)

    def address(self, name: str, slot: int) -> int:
        """Where an array is on the device."""
        return (self._memory.value or 0) + slot * self._set_bytes + self._offsets[name]

    def write(self, name: str, slot: int, array: Array) -> None:
        """Copies to the device."""
        to, size = Pointer(self.address(name, slot)), ctypes.c_size_t(array.nbytes)
        self._library.call("bnn_cuda_copy_to", to, Pointer(array.ctypes.data), size)

    def read(self, name: str, slot: int) -> Array:
        """Copies from the device."""
        array = np.empty_like(self._arrays[name])
        source, size = Pointer(self.address(name, slot)), ctypes.c_size_t(array.nbytes)
        self._library.call("bnn_cuda_copy_from", Pointer(array.ctypes.data), source, size)
        return array
