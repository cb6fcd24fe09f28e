"""The native library's C functions, callable from tests, and what they are compared with."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bnn_deploy.bits import Levels, pack_bits, pack_levels, words_for
from bnn_deploy.errors import InputRefused
from bnn_deploy.native import find_library

Array = NDArray[Any]
Pointer = ctypes.c_void_p
Int = ctypes.c_int64
LEVEL_CODES = {Levels.BIPOLAR: 0, Levels.UNIPOLAR: 1, Levels.TERNARY: 2}
VALUES = {Levels.BIPOLAR: (-1, 1), Levels.UNIPOLAR: (0, 1), Levels.TERNARY: (-1, 0, 1)}


class Conv2dCall(ctypes.Structure):
    """`bnn_conv2d_call` of plugins/c_api/c_api.h."""

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
        *((name, Pointer) for name in ("packed", "weight")),
        *((name, Pointer) for name in ("scale", "bias", "residual", "slope", "shift", "lower", "upper")),
        *((name, Pointer) for name in ("accumulator_lower", "accumulator_upper")),
        ("clip_low", ctypes.c_float),
        ("clip_high", ctypes.c_float),
        ("activation", Int),
        ("y", Pointer),
        ("bits", Pointer),
        ("float16", Int),
    )


class LinearCall(ctypes.Structure):
    """`bnn_linear_call`."""

    _fields_ = (
        *((name, Int) for name in ("channels", "levels", "batch", "outputs")),
        *((name, Pointer) for name in ("packed", "weight", "scale", "bias", "accumulator_lower", "accumulator_upper")),
        ("y", Pointer),
        ("bits", Pointer),
        ("float16", Int),
    )


class PackCall(ctypes.Structure):
    """`bnn_pack_call`."""

    _fields_ = (
        *((name, Int) for name in ("kind", "batch", "channels", "pixels")),
        *((name, Pointer) for name in ("x", "lower", "upper")),
        ("lower_count", Int),
        ("upper_count", Int),
        ("packed", Pointer),
        ("float16", Int),
    )


class AveragePoolCall(ctypes.Structure):
    """`bnn_average_pool_call`."""

    _fields_ = (
        ("x_dims", Int * 4),
        ("kernel", Int * 2),
        ("strides", Int * 2),
        ("weight_dims", Int * 4),
        *((name, Pointer) for name in ("x", "weight", "bias", "y")),
    )


class NativeError(Exception):
    """What a function of the library left as its last error."""


class Native:
    """The library, through ctypes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.library = ctypes.CDLL(str(path))
        for name in ("bnn_last_error", "bnn_kernels_name", "bnn_kernels_chosen"):
            getattr(self.library, name).restype = ctypes.c_char_p

    def kernels(self) -> list[str]:
        """The sets of kernels that run on this processor."""
        count = self.library.bnn_kernels_count()
        return [
            self.library.bnn_kernels_name(i).decode() for i in range(count) if self.library.bnn_kernels_supported(i)
        ]

    def chosen(self) -> str | None:
        """The set that a new kernel would use."""
        name = self.library.bnn_kernels_chosen()
        return name.decode() if name else None

    def call(self, function: str, kernels: str, threads: int, call: ctypes.Structure) -> None:
        """Calls one of the functions that take a struct."""
        if getattr(self.library, function)(kernels.encode(), threads, ctypes.byref(call)):
            raise NativeError(self.library.bnn_last_error().decode())


def pointer(array: Array | None) -> int | None:
    """Where an array's data is. The caller keeps it alive."""
    if array is None:
        return None
    assert array.flags["C_CONTIGUOUS"]
    return array.ctypes.data


@dataclass
class ConvCase:
    """A convolution with random operands, and how to call it.

    Attributes:
        x: [N, C, H, W] int8, levels.
        weight: [O, C / group, KH, KW] int8, -1 or +1.
        extra: Epilogue operands by their name in `Conv2dCall`.
        dirty: Sets the bits of the last words that no channel uses.
        float16: Whether y is float16, as the residual then has to be.
    """

    levels: Levels
    x: Array
    weight: Array
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilations: tuple[int, int] = (1, 1)
    group: int = 1
    pad_value: int = 0
    activation: int = 0
    clip: tuple[float, float] = (0.0, 0.0)
    extra: dict[str, Array] = field(default_factory=dict)
    outputs: tuple[str, ...] = ("y",)
    dirty: bool = False
    float16: bool = False

    def out_shape(self) -> tuple[int, int, int, int]:
        """[N, O, H', W']."""
        sizes = [
            (
                self.x.shape[2 + i]
                + self.pads[i]
                + self.pads[i + 2]
                - self.dilations[i] * (self.weight.shape[2 + i] - 1)
                - 1
            )
            // self.strides[i]
            + 1
            for i in range(2)
        ]
        return self.x.shape[0], self.weight.shape[0], sizes[0], sizes[1]

    def run(self, native: Native, kernels: str, threads: int = 1) -> dict[str, Array]:
        """The outputs, by name. What the kernel does not write stays as it was: 77."""
        packed = pack_levels(np.ascontiguousarray(np.moveaxis(self.x, 1, -1)), self.levels)
        words = pack_bits(np.ascontiguousarray(np.moveaxis(self.weight, 1, -1)) > 0)
        if self.dirty:
            packed[..., -1] |= np.int32(-1) << np.int32(self.x.shape[1] % 32)
            words[..., -1] |= np.int32(-1) << np.int32(self.weight.shape[1] % 32)
        call = Conv2dCall()
        call.channels, call.levels, call.group = self.x.shape[1], LEVEL_CODES[self.levels], self.group
        call.strides, call.pads, call.dilations = (
            (Int * 2)(*self.strides),
            (Int * 4)(*self.pads),
            (Int * 2)(*self.dilations),
        )
        call.pad_value, call.activation, call.float16 = self.pad_value, self.activation, self.float16
        call.clip_low, call.clip_high = self.clip
        call.packed_dims, call.weight_dims = (Int * 4)(*packed.shape), (Int * 4)(*words.shape)
        call.packed, call.weight = pointer(packed), pointer(words)
        for name, array in self.extra.items():
            setattr(call, name, pointer(array))
        n, o, height, width = self.out_shape()
        found: dict[str, Array] = {}
        if "y" in self.outputs:
            found["y"] = np.full((n, o, height, width), 77, np.float16 if self.float16 else np.float32)
        if "bits" in self.outputs:
            found["bits"] = np.full((n, height, width, words_for(o)), 77, np.int32)
        for name, array in found.items():
            setattr(call, name, pointer(array))
        native.call("bnn_conv2d", kernels, threads, call)
        return found


@pytest.fixture(scope="session")
def native() -> Iterator[Native]:
    """The library. Where the checks run it must have been built."""
    path = find_library()
    if path is None:
        message = "the native library is not built; make plugins"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    yield Native(path)


class Toolbox:
    """What these tests share, as one fixture: a conftest cannot be imported from."""

    AveragePoolCall = AveragePoolCall
    ConvCase = ConvCase
    LinearCall = LinearCall
    PackCall = PackCall
    NativeError = NativeError
    LEVEL_CODES = LEVEL_CODES
    VALUES = VALUES
    pointer = staticmethod(pointer)

    @staticmethod
    def levels(generator: np.random.Generator, levels: Levels, shape: tuple[int, ...]) -> Array:
        """Random levels, int8."""
        return generator.choice(np.array(VALUES[levels], np.int8), size=shape)


@pytest.fixture(scope="session")
def toolbox() -> type[Toolbox]:
    return Toolbox


@pytest.fixture(scope="session")
def refusal() -> Callable[[Callable[[], Any]], str]:
    """What a refusal says: the message of the `InputRefused` that a call raises."""

    def message(make: Callable[[], Any]) -> str:
        with pytest.raises(InputRefused) as caught:
            make()
        return str(caught.value)

    return message


class FakeGraph:
    """A CUDA graph of PyTorch, without a GPU: what is captured runs at once."""

    replays = 0

    def replay(self) -> None:
        FakeGraph.replays += 1

    def reset(self) -> None: ...


class FakeEvent:
    """A CUDA event of PyTorch, likewise."""

    def __init__(self, enable_timing: bool) -> None: ...

    def record(self) -> None: ...

    def synchronize(self) -> None: ...

    def elapsed_time(self, other: FakeEvent) -> float:
        return 4.0


@pytest.fixture
def fake_graphs(monkeypatch: pytest.MonkeyPatch) -> type[FakeGraph]:
    """What records and times in PyTorch, replaced; the class that counts the replays."""
    import torch

    for name, fake in {"CUDAGraph": FakeGraph, "Event": FakeEvent, "graph": nullcontext}.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    for name in ("synchronize", "empty_cache"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    return FakeGraph


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes `kernels` runs once for every set that this processor supports."""
    if "kernels" in metafunc.fixturenames:
        path = find_library()
        metafunc.parametrize("kernels", Native(path).kernels() if path else ["scalar"])
