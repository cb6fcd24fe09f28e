"""TensorRT's part, played from Python: `plugin_host.cpp` through ctypes. NumPy arrays in, NumPy arrays out.

What is wanted of memory comes from `plugins/cuda/driver.py`: that of a GPU, or the host executor's.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# The numbers of nvinfer1::DataType, PluginFieldType and TensorFormat that a plugin of ours meets.
TYPES = {np.dtype(np.float32): 0, np.dtype(np.float16): 1, np.dtype(np.int32): 3}
FIELD_TYPES = {np.dtype(np.float32): 1, np.dtype(np.int32): 5, np.dtype(np.int64): 10}
LINEAR, HWC8, HWC = 0, 2, 8
BUILD, RUN = 0, 1
_MOST_OUTPUTS = 2
_MOST_TACTICS = 16
_MOST_FIELDS = 16


class PluginError(Exception):
    """What the plugin, or the host, left as its last error."""


class _Tensor(ctypes.Structure):
    """`host_tensor`."""

    _fields_ = (
        ("rank", ctypes.c_int32),
        ("type", ctypes.c_int32),
        ("format", ctypes.c_int32),
        ("dims", ctypes.c_int64 * 8),
        ("known", ctypes.c_int32 * 8),
        ("data", ctypes.c_void_p),
    )


class _Field(ctypes.Structure):
    """`host_field`."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("type", ctypes.c_int32),
        ("count", ctypes.c_int32),
        ("data", ctypes.c_void_p),
    )


@dataclass(frozen=True)
class Tensor:
    """A tensor as TensorRT describes it to a plugin.

    Attributes:
        shape: Its sizes, those of the channels-first tensor whatever the format.
        dtype: float32, float16 or int32.
        format: LINEAR, HWC or HWC8.
        known: Whether each size is a constant when a network is built.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    format: int = LINEAR
    known: tuple[bool, ...] | None = None

    @classmethod
    def of(cls, array: Array) -> Tensor:
        """A linear one, like `array`."""
        return cls(array.shape, array.dtype)


def _tensors(tensors: Sequence[Tensor]) -> Any:
    made = (_Tensor * len(tensors))()
    for to, tensor in zip(made, tensors, strict=True):
        to.rank, to.type, to.format = len(tensor.shape), TYPES[np.dtype(tensor.dtype)], tensor.format
        to.dims[: to.rank] = tensor.shape
        to.known[: to.rank] = tensor.known or (True,) * to.rank
    return made


class PluginLibrary:
    """A plugin library, loaded by a host library.

    Args:
        host: `libbnn_plugin_host.so`.
        plugin: The library with the plugins.

    Raises:
        PluginError: It cannot be loaded, or exports not what TensorRT asks for.
    """

    def __init__(self, host: Path, plugin: Path) -> None:
        self.host = ctypes.CDLL(str(host))
        for name in ("host_last_error", "host_creator_name", "host_timing_cache_id"):
            getattr(self.host, name).restype = ctypes.c_char_p
        for name in ("host_open", "host_create", "host_restore", "host_clone"):
            getattr(self.host, name).restype = ctypes.c_void_p
        self.host.host_workspace.restype = ctypes.c_int64
        self._library = ctypes.c_void_p(self.host.host_open(str(plugin).encode()))
        if not self._library:
            raise self.error()

    def error(self) -> PluginError:
        """The last error."""
        return PluginError(self.host.host_last_error().decode())

    def ops(self) -> list[str]:
        """The ops that it has creators for."""
        count = self.host.host_creator_count(self._library)
        return [self.host.host_creator_name(self._library, i).decode() for i in range(count)]

    def fields(self, op: str) -> dict[str, tuple[int, int]]:
        """The attributes that it asks a parser for: name -> type and count."""
        fields = (_Field * _MOST_FIELDS)()
        count = self.host.host_creator_fields(self._library, self.ops().index(op), fields, _MOST_FIELDS)
        return {field.name.decode(): (field.type, field.count) for field in fields[:count]}

    def create(self, op: str, attributes: Mapping[str, Array], node: str = "node", phase: int = BUILD) -> Plugin:
        """A plugin for a node. attributes: one-dimensional float32, int32 or int64 arrays."""
        fields = (_Field * len(attributes))()
        for field, (name, values) in zip(fields, attributes.items(), strict=True):
            field.name, field.type, field.count = name.encode(), FIELD_TYPES[values.dtype], values.size
            field.data = values.ctypes.data
        made = self.host.host_create(self._library, op.encode(), node.encode(), phase, fields, len(fields))
        if not made:
            raise self.error()
        return Plugin(self, ctypes.c_void_p(made))


class Plugin:
    """One plugin. A context manager: freed on exit."""

    def __init__(self, library: PluginLibrary, handle: ctypes.c_void_p) -> None:
        self._library, self._host, self._handle = library, library.host, handle

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Frees it."""
        self._host.host_destroy(self._handle)

    def outputs(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Shapes and types of what it makes of such inputs."""
        made = (_Tensor * _MOST_OUTPUTS)()
        count = self._host.host_outputs(self._handle, _tensors(inputs), len(inputs), made)
        if count < 0:
            raise self._library.error()
        dtypes = {number: dtype for dtype, number in TYPES.items()}
        return [Tensor(tuple(tensor.dims[: tensor.rank]), dtypes[tensor.type]) for tensor in made[:count]]

    def supports(self, position: int, tensors: Sequence[Tensor], inputs: int) -> bool:
        """Whether the tensor at `position` may be as it is, given those before it."""
        return bool(self._host.host_supports(self._handle, position, _tensors(tensors), inputs, len(tensors) - inputs))

    def configure(self, tensors: Sequence[Tensor], inputs: int) -> None:
        """The formats are chosen."""
        self._check(self._host.host_configure(self._handle, _tensors(tensors), inputs, len(tensors) - inputs))

    def workspace(self, tensors: Sequence[Tensor], inputs: int) -> int:
        """Bytes of scratch memory for a run."""
        return int(self._host.host_workspace(self._handle, _tensors(tensors), inputs, len(tensors) - inputs))

    def tactics(self) -> list[int]:
        """Those that a builder would time."""
        numbers = (ctypes.c_int32 * _MOST_TACTICS)()
        return list(numbers[: self._host.host_tactics(self._handle, numbers, _MOST_TACTICS)])

    def timing_cache_id(self) -> str:
        """What a builder keeps timings by."""
        return str(self._host.host_timing_cache_id(self._handle).decode())

    def restored(self) -> Plugin:
        """Another one, of the fields that this one stores, attached to a context."""
        return self._another("host_restore")

    def clone(self) -> Plugin:
        """A copy of it."""
        return self._another("host_clone")

    def _another(self, function: str) -> Plugin:
        made = getattr(self._host, function)(self._handle)
        if not made:
            raise self._library.error()
        return Plugin(self._library, ctypes.c_void_p(made))

    def set_tactic(self, tactic: int) -> None:
        """0, or one of `tactics()`."""
        self._check(self._host.host_set_tactic(self._handle, tactic))

    def shapes_changed(self, tensors: Sequence[Tensor], inputs: int) -> None:
        """What runs next has these shapes."""
        self._check(self._host.host_shapes_changed(self._handle, _tensors(tensors), inputs, len(tensors) - inputs))

    def formatted(self, tensors: Sequence[Tensor], inputs: int, *, channels_last: bool) -> list[Tensor]:
        """The tensors in formats that the plugin takes together: channels last wherever it can be, or linear."""
        chosen = list(tensors)
        for position, tensor in enumerate(tensors):
            last = {np.dtype(np.float32): HWC, np.dtype(np.float16): HWC8}.get(np.dtype(tensor.dtype), LINEAR)
            for tensor_format in (last, LINEAR) if channels_last else (LINEAR,):
                chosen[position] = replace(tensor, format=tensor_format)
                if self.supports(position, chosen, inputs):
                    break
            else:
                raise PluginError(f"no format for tensor {position}, {tensor.shape} {tensor.dtype}")
        return chosen

    def infer(
        self, memory: Any, inputs: Sequence[Array], *, channels_last: bool = False, tactic: int = 0
    ) -> list[Array]:
        """All that TensorRT asks of a node: its outputs, their formats, its configuration, a run.

        Args:
            memory: A `Memory` of `plugins/cuda/driver.py`.
            inputs: In the order of the op, channels first.
            channels_last: Whether it is handed over, and asked for, channels last wherever it takes that.
            tactic: 0, or one of `tactics()`.

        Returns:
            The outputs, channels first.
        """
        described = [Tensor.of(array) for array in inputs]
        wanted = [*described, *self.outputs(described)]
        tensors = self.formatted(wanted, len(inputs), channels_last=channels_last)
        self.configure(tensors, len(inputs))
        formats = {i: tensor.format for i, tensor in enumerate(tensors[: len(inputs)])}
        stored = [_to_last(array) if formats[i] else array for i, array in enumerate(inputs)]
        made = self.run(memory, stored, tensors[len(inputs) :], formats, tactic)
        return [
            np.ascontiguousarray(np.moveaxis(array, -1, 1)) if tensor.format else array
            for array, tensor in zip(made, tensors[len(inputs) :], strict=True)
        ]

    def run(
        self,
        memory: Any,
        inputs: Sequence[Array],
        outputs: Sequence[Tensor],
        formats: Mapping[int, int] | None = None,
        tactic: int = 0,
        addresses: Mapping[int, int] | None = None,
    ) -> list[Array]:
        """Tells the shapes, and runs.

        Args:
            memory: A `Memory` of `plugins/cuda/driver.py`.
            inputs: Arrays, in the memory order of their formats; 4-dimensional channels-last ones as [N, H, W, C].
            outputs: What to make; in channels-last formats the arrays that come back are [N, H, W, C].
            formats: Input number -> its format where that is not linear.
            tactic: 0, or one of `tactics()`.
            addresses: Input number -> where it is on the device already, as an engine's weights are.
        """
        described = [self._described(array, (formats or {}).get(i, LINEAR)) for i, array in enumerate(inputs)]
        tensors = [*described, *outputs]
        made = [np.empty(_stored(tensor), tensor.dtype) for tensor in outputs]
        given = [addresses[i] if addresses and i in addresses else memory.put(array) for i, array in enumerate(inputs)]
        written = [memory.poisoned(array) for array in made]
        self.set_tactic(tactic)
        self.shapes_changed(tensors, len(inputs))
        workspace = memory.poisoned(np.empty(max(self.workspace(tensors, len(inputs)), 256), np.uint8))
        self.enqueue(tensors, [*given, *written], len(inputs), workspace, None)
        for array, address in zip(made, written, strict=True):
            memory.get(array, address)
        return made

    def enqueue(
        self, tensors: Sequence[Tensor], addresses: Sequence[int], inputs: int, workspace: int, stream: int | None
    ) -> None:
        """Puts a run on a stream, of the shapes that were told last: allocates, copies and waits for nothing.

        Args:
            tensors: Inputs, then outputs.
            addresses: Where each of them is on the device.
            inputs: How many of them are inputs.
            workspace: The address of as many bytes as `workspace()` says.
            stream: A `cudaStream_t`; None is the default stream.
        """
        raw = _tensors(tensors)
        for to, address in zip(raw, addresses, strict=True):
            to.data = address
        outputs, scratch = len(tensors) - inputs, ctypes.c_void_p(workspace)
        self._check(self._host.host_run(self._handle, raw, inputs, outputs, scratch, ctypes.c_void_p(stream)))

    @staticmethod
    def _described(array: Array, tensor_format: int) -> Tensor:
        shape = array.shape
        if tensor_format != LINEAR:
            shape = (shape[0], shape[3], shape[1], shape[2])
        return Tensor(shape, array.dtype, tensor_format)

    def _check(self, status: int) -> None:
        if status:
            raise self._library.error()


def _to_last(array: Array) -> Array:
    """[N, C, H, W] -> [N, H, W, C]."""
    return np.ascontiguousarray(np.moveaxis(array, 1, -1))


def _stored(tensor: Tensor) -> tuple[int, ...]:
    """The shape in the order of memory."""
    if tensor.format == LINEAR:
        return tensor.shape
    batch, channels, height, width = tensor.shape
    return batch, height, width, channels
