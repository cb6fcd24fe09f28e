"""The GPU's kernels from Python, through the C functions of `c_api.h`: NumPy arrays in, NumPy arrays out.

For tests and measurements. It drives either of the two libraries: `libbnn_deploy_cuda.so` on a GPU, or
`libbnn_deploy_cuda_host.so`, in which the host executor runs the same kernels.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Int = ctypes.c_int64
Pointer = ctypes.c_void_p

BIPOLAR, UNIPOLAR, TERNARY = 0, 1, 2
ACTIVATIONS = {"": 0, "PRelu": 1, "Clip": 2}
PACK_KINDS = {"bipolar": 0, "unipolar": 1, "ternary": 2, "interval": 3}
PRODUCTS = {"native": 0, "xor": 1, "and": 2, "int8": 3}
ORDERS = {"ascending": 0, "descending": 1, "shuffled": 2}
CHOOSE = -1
POISON = 0x5B  # every byte of an output, before a kernel writes it


class CudaKernelError(Exception):
    """What a function of the library left as its last error."""


class Conv2dCall(ctypes.Structure):
    """`bnn_cuda_conv2d_call`."""

    _fields_ = (
        ("channels", Int),
        ("levels", Int),
        ("strides", Int * 2),
        ("pads", Int * 4),
        ("dilations", Int * 2),
        ("group", Int),
        ("pad_value", Int),
        ("packed_dims", Int * 4),
        ("weight_dims", Int * 4),
        *((name, Pointer) for name in ("packed", "weight", "scale", "bias", "residual")),
        *((name, Pointer) for name in ("slope", "shift", "lower", "upper", "accumulator_lower", "accumulator_upper")),
        ("clip_low", ctypes.c_float),
        ("clip_high", ctypes.c_float),
        *((name, Int) for name in ("activation", "layout", "float16")),
        *((name, Pointer) for name in ("y", "bits", "accumulator", "border")),
        *((name, Int) for name in ("kernel", "product", "multiprocessors", "shared_bytes")),
    )


class PackCall(ctypes.Structure):
    """`bnn_cuda_pack_call`."""

    _fields_ = (
        *((name, Int) for name in ("kind", "layout", "float16", "batch", "channels", "pixels")),
        *((name, Pointer) for name in ("x", "lower", "upper")),
        ("lower_count", Int),
        ("upper_count", Int),
        ("packed", Pointer),
    )


class MaxPoolCall(ctypes.Structure):
    """`bnn_cuda_max_pool_call`."""

    _fields_ = (
        ("channels", Int),
        ("kernel", Int * 2),
        ("strides", Int * 2),
        ("pads", Int * 4),
        ("packed_dims", Int * 4),
        *((name, Pointer) for name in ("packed", "flip", "out")),
    )


@dataclass(frozen=True)
class Conv2d:
    """A packed convolution as an operator has it.

    Attributes:
        channels: The true number of input channels.
        levels: BIPOLAR, UNIPOLAR or TERNARY.
        pads: Top, left, bottom, right.
        activation: "", "PRelu" or "Clip".
    """

    channels: int
    levels: int = BIPOLAR
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilations: tuple[int, int] = (1, 1)
    group: int = 1
    pad_value: int = 0
    activation: str = ""
    clip: tuple[float, float] = (0.0, 0.0)

    def out_size(self, packed: tuple[int, ...], weight: tuple[int, ...]) -> tuple[int, int]:
        """H', W' for packed [N, H, W, words] and weight [O, KH, KW, words]."""
        sizes = [
            (packed[1 + i] + self.pads[i] + self.pads[i + 2] - self.dilations[i] * (weight[1 + i] - 1) - 1)
            // self.strides[i]
            + 1
            for i in range(2)
        ]
        return sizes[0], sizes[1]


@dataclass(frozen=True)
class Device:
    """What there is to run on. compute_capability: 90 is 9.0; 0 in the host executor."""

    name: str
    compute_capability: int
    multiprocessors: int


@dataclass(frozen=True)
class Plan:
    """How a tile uses the shared memory of a block. widened: whether bits become int8 there."""

    shared_bytes: int
    widened: bool


class Library:
    """One of the two libraries, loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._library = ctypes.CDLL(str(path))
        self._library.bnn_cuda_last_error.restype = ctypes.c_char_p
        self.tiles: int = self._library.bnn_cuda_tile_count()
        self.popcount = self.tiles  # the number of the popcount kernel

    def device(self) -> Device:
        """The GPU. Raises CudaKernelError where there is none."""
        name = ctypes.create_string_buffer(256)
        capability, multiprocessors = ctypes.c_int(), ctypes.c_int()
        self.call(
            "bnn_cuda_device", name, ctypes.c_size_t(256), ctypes.byref(capability), ctypes.byref(multiprocessors)
        )
        return Device(name.value.decode(), capability.value, multiprocessors.value)

    def order(self, order: str, seed: int = 0) -> None:
        """In the host executor: the order in which threads run, one of ORDERS."""
        self.call("bnn_cuda_executor_order", ORDERS[order], ctypes.c_uint32(seed))

    def conv2d(
        self,
        layer: Conv2d,
        packed: Array,
        weight: Array,
        operands: Mapping[str, Array],
        outputs: tuple[str, ...],
        *,
        channels_last: bool = False,
        float16: bool = False,
        kernel: int = CHOOSE,
        product: str = "native",
        multiprocessors: int = 0,
        shared_bytes: int = 0,
    ) -> dict[str, Array]:
        """Runs a convolution.

        Args:
            layer: Its attributes.
            packed: [N, H, W, words] int32.
            weight: [O, KH, KW, words] int32.
            operands: scale, bias, residual, ... by their names in `Conv2dCall`.
            outputs: Out of "y", "bits" and "accumulator".
            channels_last: Whether y and the residual are [N, H', W', O].
            float16: Whether they are float16.
            kernel: A tile, `self.popcount` or CHOOSE.
            product: One of PRODUCTS; only the host executor has all.
            multiprocessors: Of a GPU to plan for; 0: of the one that is there.
            shared_bytes: Likewise, of one block.

        Returns:
            The outputs by name. Every byte was POISON before.
        """
        call = self.conv2d_call(layer, packed.shape, weight.shape)
        call.layout, call.float16, call.kernel, call.product = channels_last, float16, kernel, PRODUCTS[product]
        call.multiprocessors, call.shared_bytes = multiprocessors, shared_bytes
        border = ctypes.c_size_t()
        self.call("bnn_cuda_border_bytes", ctypes.byref(call), ctypes.byref(border))
        height, width = layer.out_size(packed.shape, weight.shape)
        batch, count = packed.shape[0], weight.shape[0]
        first, last = (batch, count, height, width), (batch, height, width, count)
        made = {
            "y": np.empty(last if channels_last else first, np.float16 if float16 else np.float32),
            "bits": np.empty((batch, height, width, -(-count // 32)), np.int32),
            "accumulator": np.empty(first, np.int32),
        }
        with self.memory() as memory:
            call.packed, call.weight = memory.put(packed), memory.put(weight)
            for name, array in operands.items():
                setattr(call, name, memory.put(array))
            for name in outputs:
                setattr(call, name, memory.poisoned(made[name]))
            call.border = memory.poisoned(np.empty(border.value, np.uint8))
            self.call("bnn_cuda_prepare", ctypes.byref(call), None)
            self.call("bnn_cuda_conv2d", ctypes.byref(call), None)
            for name in outputs:
                memory.get(made[name], getattr(call, name))
        return {name: made[name] for name in outputs}

    def chosen_kernel(self, layer: Conv2d, packed: tuple[int, ...], weight: tuple[int, ...], **planned: int) -> int:
        """Which kernel CHOOSE stands for. planned: `multiprocessors`, `shared_bytes`."""
        call = self.conv2d_call(layer, packed, weight)
        for name, value in planned.items():
            setattr(call, name, value)
        kernel = ctypes.c_int()
        self.call("bnn_cuda_chosen_kernel", ctypes.byref(call), ctypes.byref(kernel))
        return kernel.value

    def plan(
        self,
        layer: Conv2d,
        packed: tuple[int, ...],
        weight: tuple[int, ...],
        kernel: int,
        *,
        product: str = "native",
        shared_bytes: int = 0,
    ) -> Plan:
        """The plan of a tile. packed, weight: their shapes; the rest as for `conv2d`."""
        call = self.conv2d_call(layer, packed, weight)
        call.kernel, call.product, call.shared_bytes = kernel, PRODUCTS[product], shared_bytes
        taken, widened = ctypes.c_int(), ctypes.c_int()
        self.call("bnn_cuda_plan", ctypes.byref(call), ctypes.byref(taken), ctypes.byref(widened))
        return Plan(taken.value, bool(widened.value))

    def pack(self, kind: str, x: Array, bounds: tuple[Array, ...] = (), *, channels_last: bool = False) -> Array:
        """Packs x: [N, C, *spatial], or [N, *spatial, C]; returns [N, *spatial, planes * words] int32.

        bounds: the threshold, [1] or [C]; for an interval both; none for ternary.
        """
        channels = x.shape[-1] if channels_last else x.shape[1]
        spatial = x.shape[1:-1] if channels_last else x.shape[2:]
        planes = 2 if kind == "ternary" else 1
        packed = np.empty((x.shape[0], *spatial, planes * -(-channels // 32)), np.int32)
        call = PackCall(PACK_KINDS[kind], channels_last, x.dtype == np.float16, x.shape[0], channels)
        call.pixels = int(np.prod(spatial))
        with self.memory() as memory:
            call.x, call.packed = memory.put(x), memory.poisoned(packed)
            for name, bound in zip(("lower", "upper"), bounds, strict=False):
                setattr(call, name, memory.put(bound))
                setattr(call, f"{name}_count", bound.size)
            self.call("bnn_cuda_pack", ctypes.byref(call), None)
            memory.get(packed, call.packed)
        return packed

    def max_pool(
        self,
        packed: Array,
        flip: Array,
        channels: int,
        kernel: tuple[int, int],
        strides: tuple[int, int],
        pads: tuple[int, int, int, int],
    ) -> Array:
        """Pools packed [N, H, W, words]; flip: [words]. Returns [N, H', W', words]."""
        call = MaxPoolCall(channels, (Int * 2)(*kernel), (Int * 2)(*strides), (Int * 4)(*pads))
        call.packed_dims = (Int * 4)(*packed.shape)
        sizes = [(packed.shape[1 + i] + pads[i] + pads[i + 2] - kernel[i]) // strides[i] + 1 for i in range(2)]
        out = np.empty((packed.shape[0], *sizes, packed.shape[3]), np.int32)
        with self.memory() as memory:
            call.packed, call.flip, call.out = memory.put(packed), memory.put(flip), memory.poisoned(out)
            self.call("bnn_cuda_max_pool", ctypes.byref(call), None)
            memory.get(out, call.out)
        return out

    @staticmethod
    def conv2d_call(layer: Conv2d, packed: tuple[int, ...], weight: tuple[int, ...]) -> Conv2dCall:
        """A call with the sizes and attributes of a layer, and no pointers. packed, weight: their shapes."""
        call = Conv2dCall()
        call.channels, call.levels, call.group, call.pad_value = (
            layer.channels,
            layer.levels,
            layer.group,
            layer.pad_value,
        )
        call.strides, call.pads = (Int * 2)(*layer.strides), (Int * 4)(*layer.pads)
        call.dilations = (Int * 2)(*layer.dilations)
        call.packed_dims, call.weight_dims = (Int * 4)(*packed), (Int * 4)(*weight)
        call.activation = ACTIVATIONS[layer.activation]
        call.clip_low, call.clip_high = layer.clip
        return call

    def call(self, function: str, *arguments: Any) -> None:
        """Calls a function of the library. Raises CudaKernelError with what it left as its last error."""
        if getattr(self._library, function)(*arguments):
            raise CudaKernelError(self._library.bnn_cuda_last_error().decode())

    @contextmanager
    def memory(self) -> Iterator[Memory]:
        with ExitStack() as stack:
            yield Memory(self, stack)


class Memory:
    """Device memory that is released at the end."""

    def __init__(self, library: Library, stack: ExitStack) -> None:
        self._library, self._stack = library, stack

    def put(self, array: Array) -> int:
        """A copy of `array` on the device; its address."""
        array = np.ascontiguousarray(array)
        address = Pointer()
        room = max(array.nbytes, 1)  # an empty array has an address too
        self._library.call("bnn_cuda_allocate", ctypes.c_size_t(room), ctypes.byref(address))
        self._stack.callback(self._library.call, "bnn_cuda_release", address)
        self.write(array, address.value or 0)
        return address.value or 0

    def poisoned(self, array: Array) -> int:
        """Room for `array`, which is filled with POISON here and there."""
        array.view(np.uint8)[...] = POISON
        return self.put(array)

    def write(self, array: Array, address: int) -> None:
        """Copies `array`, which is contiguous, to device memory."""
        self._library.call(
            "bnn_cuda_copy_to", Pointer(address), Pointer(array.ctypes.data), ctypes.c_size_t(array.nbytes)
        )

    def get(self, array: Array, address: int) -> None:
        """Copies device memory into `array`."""
        self._library.call(
            "bnn_cuda_copy_from", Pointer(array.ctypes.data), Pointer(address), ctypes.c_size_t(array.nbytes)
        )
