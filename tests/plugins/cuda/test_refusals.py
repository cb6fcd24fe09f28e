"""What does not fit is refused with both values named, before anything is launched, and never a crash."""

from __future__ import annotations

import ctypes
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from driver import Conv2dCall, CudaKernelError, Int, Library, MaxPoolCall, Memory, PackCall
from hypothesis import given, settings
from hypothesis import strategies as st


def good_call(library: Library, memory: Memory) -> Conv2dCall:
    """A call that runs: 64 channels, 8 outputs, 3x3, an image of 4x4; y, bits and every operand."""
    call = Conv2dCall(channels=64, group=1, kernel=3)
    call.strides, call.dilations, call.pads = (Int * 2)(1, 1), (Int * 2)(1, 1), (Int * 4)(1, 1, 1, 1)
    call.packed_dims, call.weight_dims = (Int * 4)(1, 4, 4, 2), (Int * 4)(8, 3, 3, 2)
    call.packed = memory.put(np.zeros((1, 4, 4, 2), np.int32))
    call.weight = memory.put(np.zeros((8, 3, 3, 2), np.int32))
    for name in ("scale", "bias", "slope", "shift", "lower", "upper"):
        setattr(call, name, memory.put(np.ones(8, np.float32)))
    call.residual = memory.put(np.ones((1, 8, 4, 4), np.float32))
    call.y = memory.put(np.ones((1, 8, 4, 4), np.float32))
    call.bits = memory.put(np.ones((1, 4, 4, 1), np.int32))
    border = ctypes.c_size_t()
    library.call("bnn_cuda_border_bytes", ctypes.byref(call), ctypes.byref(border))
    call.border = memory.put(np.zeros(border.value, np.uint8))
    return call


def changed(call: Conv2dCall, change: dict[str, Any]) -> Conv2dCall:
    """`change`: new values by field; a pair of an index and a value for one of several, "+4" for a pointer moved on."""
    for name, value in change.items():
        if isinstance(value, tuple):
            getattr(call, name)[value[0]] = value[1]
        else:
            setattr(call, name, getattr(call, name) + 4 if value == "+4" else value)
    return call


CONV_REFUSALS = [
    # Attributes, by the rules of plugins/core/conv_shape.cpp.
    ({"channels": 0}, "attribute channels is 0, wanted 1 to"),
    ({"channels": 1 << 40}, "attribute channels is 1099511627776"),
    ({"group": 3}, "64 channels do not divide into 3 groups"),
    ({"strides": (1, 0)}, "attribute strides is 0"),
    ({"dilations": (0, -1)}, "attribute dilations is -1"),
    ({"dilations": (0, 9)}, "the kernel spans 19 pixels of height, but the padded input has 6"),
    ({"pads": (2, -1)}, "attribute pads is -1"),
    ({"pad_value": 2}, "attribute pad_value is 2, wanted -1"),
    ({"pad_value": 1 << 32}, "attribute pad_value is 4294967296"),
    ({"weight_dims": (0, 0)}, "weight axis is 0"),
    ({"weight_dims": (3, 3)}, "weight has 3 words, wanted 2 for 64 channels of a group"),
    ({"weight_dims": (1, 1 << 22)}, "a kernel of 4194304x3 on 64 channels"),
    ({"packed_dims": (3, 1)}, "packed has 1 words, wanted 2 for 64 channels"),
    ({"packed_dims": (1, -4)}, "packed axis is -4"),
    ({"levels": 2}, "packed has 2 words, wanted 4 for 64 channels"),
    # What the kernels count in int32.
    ({"packed_dims": (0, -1)}, "the batch is -1"),
    ({"packed_dims": (0, 1 << 32)}, "the batch is 4294967296, wanted 2147483647 or less"),
    ({"packed_dims": (0, 1 << 28)}, "the number of output pixels is 4294967296"),
    ({"packed_dims": (1, 1 << 24), "pads": (3, 1 << 23)}, "the size of an output image is 140"),
    # Choices.
    ({"levels": 3}, "levels is 3, wanted 0 to 2"),
    ({"levels": -1}, "levels is -1, wanted 0 to 2"),
    ({"layout": 2}, "layout is 2, wanted 0 to 1"),
    ({"activation": 3}, "activation is 3, wanted 0 to 2"),
    ({"product": 4}, "product is 4, wanted 0 to 3"),
    ({"kernel": 5}, "kernel is 5, wanted -1 to 4"),
    ({"kernel": -2}, "kernel is -2, wanted -1 to 4"),
    ({"kernel": 1 << 32}, "kernel is 4294967296, wanted -1 to 4"),
    ({"multiprocessors": -1}, "multiprocessors is -1"),
    ({"multiprocessors": 1 << 33}, "multiprocessors is 8589934592"),
    ({"shared_bytes": -1}, "shared_bytes is -1"),
    ({"shared_bytes": 64}, "tile 3 does not take this layer: it needs more shared memory than 64 bytes"),
    ({"group": 2, "weight_dims": (3, 1)}, "tile kernels take no groups, found 2"),
    # Pointers.
    ({"packed": None}, "packed is missing"),
    ({"packed": "+4"}, "packed is not aligned to 16 bytes"),
    ({"weight": None}, "weight is missing"),
    ({"weight": "+4"}, "weight is not aligned to 16 bytes"),
    ({"border": None}, "border is missing"),
    ({"border": "+4"}, "border is not aligned to 16 bytes"),
    ({"bits": "+4"}, "bits is not aligned to 16 bytes"),
    ({"scale": None}, "scale or bias is missing"),
    ({"bias": None}, "scale or bias is missing"),
    ({"slope": None, "activation": 1}, "slope or shift is missing"),
    ({"shift": None, "activation": 1}, "slope or shift is missing"),
    ({"lower": None}, "a bound is missing"),
    ({"upper": None}, "a bound is missing"),
    ({"y": None, "residual": None}, "an integer bound is missing"),
]


@pytest.mark.parametrize(("change", "message"), CONV_REFUSALS)
def test_convolution_is_refused(library: Library, change: dict[str, Any], message: str) -> None:
    with library.memory() as memory:
        call = changed(good_call(library, memory), change)
        with pytest.raises(CudaKernelError, match=message):
            library.call("bnn_cuda_conv2d", ctypes.byref(call), None)


def test_what_the_refusals_start_from_runs(library: Library) -> None:
    with library.memory() as memory:
        call = good_call(library, memory)
        library.call("bnn_cuda_prepare", ctypes.byref(call), None)
        library.call("bnn_cuda_conv2d", ctypes.byref(call), None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"border": None}, "border or weight is missing"),
        ({"weight": None}, "border or weight is missing"),
        ({"border": "+4"}, "border is not aligned to 16 bytes"),
        ({"product": -1}, "product is -1, wanted 0 to 3"),
    ],
)
def test_border_table_is_refused(library: Library, change: dict[str, Any], message: str) -> None:
    with library.memory() as memory:
        call = changed(good_call(library, memory), change)
        with pytest.raises(CudaKernelError, match=message):
            library.call("bnn_cuda_prepare", ctypes.byref(call), None)


def test_a_product_that_the_gpu_may_not_have_is_refused(library: Library, on_gpu: bool) -> None:
    """The executor plays all of them."""
    refused = pytest.raises(CudaKernelError, match="a product was asked for that this GPU may not have")
    with library.memory() as memory:
        call = changed(good_call(library, memory), {"product": 1})
        library.call("bnn_cuda_prepare", ctypes.byref(changed(call, {"product": 0})), None)
        with refused if on_gpu else nullcontext():
            library.call("bnn_cuda_conv2d", ctypes.byref(changed(call, {"product": 1})), None)


def test_grid_beyond_every_gpu_is_refused(library: Library) -> None:
    """So many outputs that the blocks do not fit into the second axis of a grid."""
    with library.memory() as memory:
        call = changed(
            good_call(library, memory), {"weight_dims": (0, 1 << 20), "kernel": 4, "residual": None, "bits": None}
        )
        with pytest.raises(CudaKernelError, match="conv_popcount: a grid of 1 x 131072 blocks, wanted"):
            library.call("bnn_cuda_conv2d", ctypes.byref(call), None)


def test_border_table_beyond_int32_leaves_the_popcount_kernel(library: Library) -> None:
    """A kernel of 1024x1024 that reaches into the padding on all sides has 2^40 ways to be cut."""
    call = Conv2dCall(channels=1, group=1)
    call.strides, call.dilations, call.pads = (Int * 2)(1, 1), (Int * 2)(1, 1), (Int * 4)(*[1023] * 4)
    call.packed_dims, call.weight_dims = (Int * 4)(1, 8, 8, 1), (Int * 4)(8, 1024, 1024, 1)
    border, kernel = ctypes.c_size_t(1), ctypes.c_int()
    library.call("bnn_cuda_border_bytes", ctypes.byref(call), ctypes.byref(border))
    library.call("bnn_cuda_chosen_kernel", ctypes.byref(call), ctypes.byref(kernel))
    assert (border.value, kernel.value) == (0, library.popcount)


PACK = {"channels": 5, "batch": 1, "pixels": 3, "x": 256, "packed": 256, "lower": 256, "lower_count": 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": 4}, "kind is 4, wanted 0 to 3"),
        ({"layout": -1}, "layout is -1, wanted 0 to 1"),
        ({"batch": -1}, "the batch is -1"),
        ({"channels": 0}, "channels is 0"),
        ({"channels": -100}, "channels is -100"),
        ({"pixels": -1}, "x has 1 images of 5 channels of -1 pixels"),
        ({"pixels": 1 << 40}, "x has 1 images of 5 channels of 1099511627776 pixels"),
        ({"batch": 1 << 30, "pixels": 1 << 30}, "packed would have more than 4294967296 words"),
        ({"x": None}, "x or packed is missing"),
        ({"packed": None}, "x or packed is missing"),
        ({"lower": None}, "the threshold is missing"),
        ({"lower_count": 0}, "0 thresholds for 5 channels"),
        ({"lower_count": 4}, "4 thresholds for 5 channels"),
        ({"kind": 3}, "the upper bound is missing"),
        ({"kind": 3, "upper": 256, "upper_count": -1}, "-1 thresholds for 5 channels"),
    ],
)
def test_packing_is_refused(library: Library, change: dict[str, Any], message: str) -> None:
    with pytest.raises(CudaKernelError, match=message):
        library.call("bnn_cuda_pack", ctypes.byref(PackCall(**(PACK | change))), None)


def pool_call(**change: Any) -> MaxPoolCall:
    """2x2 over an image of 4x4 of 64 channels. `change`: the arrays as tuples."""
    fields = {"kernel": (2, 2), "strides": (2, 2), "pads": (0, 0, 0, 0), "packed_dims": (1, 4, 4, 2)} | change
    arrays = {name: (Int * len(value))(*value) for name, value in fields.items() if isinstance(value, tuple)}
    pointers = dict.fromkeys(("packed", "flip", "out"), 256)
    return MaxPoolCall(**({"channels": 64} | pointers | fields | arrays))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": 70}, "packed has 2 words, wanted 3 for 70 channels"),
        ({"kernel": (9, 2)}, "the kernel spans 9 pixels of height, but the padded input has 4"),
        ({"kernel": (0, 2)}, "weight axis is 0"),
        ({"strides": (1, 0)}, "attribute strides is 0"),
        ({"pads": (0, -1, 0, 0)}, "attribute pads is -1"),
        ({"packed_dims": (1 << 40, 4, 4, 2)}, "the batch is 1099511627776"),
        ({"packed": None}, "packed, flip or out is missing"),
        ({"flip": None}, "packed, flip or out is missing"),
        ({"out": None}, "packed, flip or out is missing"),
    ],
)
def test_pooling_is_refused(library: Library, change: dict[str, Any], message: str) -> None:
    with pytest.raises(CudaKernelError, match=message):
        library.call("bnn_cuda_max_pool", ctypes.byref(pool_call(**change)), None)


def test_unknown_order_is_refused(library: Library, on_gpu: bool) -> None:
    if on_gpu:
        pytest.skip("a GPU has no order to choose")
    with pytest.raises(CudaKernelError, match="order is 3, wanted 0 to 2"):
        library.call("bnn_cuda_executor_order", 3, ctypes.c_uint32(0))


# ---- anything at all

powers = st.builds(lambda power, more: (1 << power) + more, st.integers(0, 62), st.integers(-1, 1))
numbers = st.integers(-2, 9) | st.sampled_from((32, 33, 64, 100)) | powers | st.integers(-(2**63), 2**63 - 1)
sizes = st.integers(1, 5) | numbers


def drawn(data: st.DataObject, call: ctypes.Structure) -> None:
    """Fills in every number; pointers stay null."""
    for name, kind in call._fields_:
        if kind is Int:
            setattr(call, name, data.draw(numbers | st.integers(0, 2), label=name))
        elif kind is not ctypes.c_void_p and kind is not ctypes.c_float:
            setattr(call, name, kind(*[data.draw(sizes, label=name) for _ in range(kind._length_)]))


@settings(max_examples=300)
@given(data=st.data(), fitting=st.booleans())
def test_any_attributes_are_taken_or_refused(library: Library, data: st.DataObject, fitting: bool) -> None:
    """What needs no memory answers or refuses; with null pointers a kernel never starts."""
    call = Conv2dCall()
    drawn(data, call)
    if fitting:  # as far as words go: most draws would end there
        call.channels, call.group, call.levels = data.draw(st.integers(1, 200)), 1, 0
        call.packed_dims[3] = call.weight_dims[3] = -(-call.channels // 32)
    border, kernel = ctypes.c_size_t(), ctypes.c_int()
    for function, answer in (("bnn_cuda_border_bytes", border), ("bnn_cuda_chosen_kernel", kernel)):
        try:
            library.call(function, ctypes.byref(call), ctypes.byref(answer))
        except CudaKernelError as error:
            assert str(error)
    assert border.value <= 4 << 30
    assert 0 <= kernel.value <= library.popcount
    with pytest.raises(CudaKernelError):
        library.call("bnn_cuda_conv2d", ctypes.byref(call), None)


@settings(max_examples=100)
@given(data=st.data())
def test_any_numbers_of_the_smaller_calls_are_refused(library: Library, data: st.DataObject) -> None:
    for function, call in (("bnn_cuda_pack", PackCall()), ("bnn_cuda_max_pool", MaxPoolCall())):
        drawn(data, call)
        with pytest.raises(CudaKernelError):
            library.call(function, ctypes.byref(call), None)
