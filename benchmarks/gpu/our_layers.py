"""Our kernels as contenders: packing, and a 1-bit layer with float16 residual, float16 output and packed output."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

import numpy as np
from floors import Layer
from numpy.typing import NDArray
from slots import Array, Library, Pointer, Slots, driver
from turns import Contender, contender

from bnn_deploy.bits import words_for

Words = NDArray[np.int32]
PATTERN = 1 << 20  # values drawn; larger arrays repeat them


def repeated(pattern: Array, shape: tuple[int, ...]) -> Array:
    """`pattern` again and again until `shape` is full."""
    return np.resize(pattern, shape)


def random_words(generator: np.random.Generator, shape: tuple[int, ...]) -> Words:
    """Random bits."""
    count = min(int(np.prod(shape)), PATTERN)
    return repeated(generator.integers(-(2**31), 2**31, count, np.int32), shape)


def random_reals(generator: np.random.Generator, shape: tuple[int, ...], kind: type) -> Array:
    """Values around 0."""
    count = min(int(np.prod(shape)), PATTERN)
    return repeated(generator.standard_normal(count, np.float32).astype(kind), shape)


def poisoned(shape: tuple[int, ...], kind: type) -> Array:
    """What an output is before it is written."""
    return np.full(int(np.prod(shape)) * np.dtype(kind).itemsize, driver.POISON, np.uint8).view(kind).reshape(shape)


class OurLayer:
    """A layer at one batch size."""

    def __init__(self, library: Library, layer: Layer, batch: int) -> None:
        self._library, self._layer, self._batch = library, layer, batch
        self._attributes = driver.Conv2d(layer.channels, strides=(layer.stride,) * 2, pads=(layer.pad,) * 4)
        self.chosen: int = library.chosen_kernel(self._attributes, self._packed_shape, self._weight_shape)
        self.arrays = self._draw()

    @property
    def _packed_shape(self) -> tuple[int, ...]:
        return self._batch, self._layer.size, self._layer.size, words_for(self._layer.channels)

    @property
    def _weight_shape(self) -> tuple[int, ...]:
        return self._layer.outputs, self._layer.kernel, self._layer.kernel, words_for(self._layer.channels)

    def _draw(self) -> dict[str, Array]:
        """Everything that a run reads and writes, by its name in `Conv2dCall`. Sums are scaled to about 1."""
        generator, layer = np.random.default_rng(), self._layer
        outputs = layer.outputs
        pixels = (self._batch, layer.out_size, layer.out_size)
        border = ctypes.c_size_t()
        call = self._library.conv2d_call(self._attributes, self._packed_shape, self._weight_shape)
        self._library.call("bnn_cuda_border_bytes", ctypes.byref(call), ctypes.byref(border))
        return {
            "packed": random_words(generator, self._packed_shape),
            "weight": random_words(generator, self._weight_shape),
            "scale": np.full(outputs, (layer.channels * layer.kernel**2) ** -0.5, np.float32),
            "bias": random_reals(generator, (outputs,), np.float32),
            "lower": np.zeros(outputs, np.float32),
            "upper": np.full(outputs, np.inf, np.float32),
            "residual": random_reals(generator, (*pixels, outputs), np.float16),
            "y": poisoned((*pixels, outputs), np.float16),
            "bits": poisoned((*pixels, words_for(outputs)), np.int32),
            "border": poisoned((border.value,), np.uint8),
        }

    @property
    def set_bytes(self) -> int:
        """Of one copy of the arrays."""
        return sum(array.nbytes for array in self.arrays.values())

    def name_of(self, kernel: int) -> str:
        """A kernel of the library, as the results call it."""
        return "popcount" if kernel == self._library.popcount else f"tile {kernel}"

    def prepare(self, slots: Slots) -> None:
        """Fills the border table of every slot, and waits: recordings run on streams that wait for nothing."""
        for slot in range(slots.count):
            call = self._call(slots, slot, self._library.popcount)
            self._library.call("bnn_cuda_prepare", ctypes.byref(call), None)
        slots.read("border", slots.count - 1)

    def _call(self, slots: Slots, slot: int, kernel: int) -> driver.Conv2dCall:
        call = self._library.conv2d_call(self._attributes, self._packed_shape, self._weight_shape)
        for name in self.arrays:
            setattr(call, name, slots.address(name, slot))
        call.layout, call.float16, call.kernel = 1, 1, kernel
        return call

    def compare_kernels(self, slots: Slots) -> tuple[dict[str, str], dict[str, str]]:
        """The kernels that do not take the layer, those that compute what the popcount kernel does not; and why."""
        expected = self._outputs(slots, self._library.popcount)
        refused: dict[str, str] = {}
        wrong: dict[str, str] = {}
        for kernel in range(self._library.tiles):
            try:
                outputs = self._outputs(slots, kernel)
            except driver.CudaKernelError as error:
                refused[self.name_of(kernel)] = str(error)
                continue
            differ = [name for name in expected if outputs[name].tobytes() != expected[name].tobytes()]
            if differ:
                wrong[self.name_of(kernel)] = f"{' and '.join(differ)} differ from the popcount kernel's; not timed"
        return refused, wrong

    def _outputs(self, slots: Slots, kernel: int) -> dict[str, Array]:
        """What a run of the first slot writes."""
        for name in ("y", "bits"):
            slots.write(name, 0, self.arrays[name])
        self._library.call("bnn_cuda_conv2d", ctypes.byref(self._call(slots, 0, kernel)), None)
        return {name: slots.read(name, 0) for name in ("y", "bits")}

    def contenders(self, slots: Slots, kernels: list[int], *, dry: bool) -> dict[str, Contender]:
        """The kernels that run, by name."""

        def one(kernel: int) -> Contender:
            calls = [self._call(slots, slot, kernel) for slot in range(slots.count)]

            def launch(slot: int, stream: int | None) -> None:
                self._library.call("bnn_cuda_conv2d", ctypes.byref(calls[slot]), Pointer(stream))

            return contender(self._library, launch, slots.count, dry=dry)

        return {self.name_of(kernel): one(kernel) for kernel in kernels}


def pack_arrays(layer: Layer, batch: int, kind: type, *, channels_last: bool) -> dict[str, Array]:
    """What packing the input of a layer reads and writes."""
    generator = np.random.default_rng()
    first, last = (batch, layer.channels, layer.size, layer.size), (batch, layer.size, layer.size, layer.channels)
    return {
        "x": random_reals(generator, last if channels_last else first, kind),
        "lower": np.zeros(1, np.float32),
        "packed": poisoned((*last[:3], words_for(layer.channels)), np.int32),
    }


def pack_contender(
    library: Library, layer: Layer, slots: Slots, arrays: Mapping[str, Any], *, channels_last: bool, dry: bool
) -> Contender:
    """Packing, bipolar with one threshold."""
    batch, pixels = arrays["x"].shape[0], layer.size**2
    float16 = arrays["x"].dtype == np.float16
    calls = [
        driver.PackCall(
            kind=driver.PACK_KINDS["bipolar"],
            layout=channels_last,
            float16=float16,
            batch=batch,
            channels=layer.channels,
            pixels=pixels,
            x=slots.address("x", slot),
            lower=slots.address("lower", slot),
            lower_count=1,
            upper_count=1,
            packed=slots.address("packed", slot),
        )
        for slot in range(slots.count)
    ]

    def launch(slot: int, stream: int | None) -> None:
        library.call("bnn_cuda_pack", ctypes.byref(calls[slot]), Pointer(stream))

    return contender(library, launch, slots.count, dry=dry)
