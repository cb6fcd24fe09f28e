"""The convolution kernels: exact integers for every geometry, and every epilogue bit for bit."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from conv_cases import ConvCase, conv_cases, finish, packed_within, random_case, round_to, same_bits, with_edges
from driver import CHOOSE, ORDERS, PRODUCTS, Conv2d, CudaKernelError, Library
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bnn_deploy.bits import Levels
from bnn_deploy.opset import EPILOGUES, PRELU

TILES = range(4)
AMPLE_BYTES = 1 << 20  # of shared memory, in the executor: a tile of every layer fits
InEveryOrder = Callable[..., Iterator[Any]]


def run_tile(library: Library, on_gpu: bool, order: str, case: ConvCase, **options: Any) -> Any:
    """The accumulators. Where a GPU's shared memory is too small for a tile, the case does not count."""
    if not on_gpu:
        library.order(order, seed=1)
    try:
        return case.run(library, shared_bytes=0 if on_gpu else AMPLE_BYTES, **options)
    except CudaKernelError as error:
        assume(not (on_gpu and "shared memory" in str(error)))
        raise
    finally:
        if not on_gpu:
            library.order("ascending")


def test_every_tile_is_tested(library: Library) -> None:
    assert library.tiles == len(TILES)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("product", PRODUCTS)
@settings(max_examples=12)
@given(case=conv_cases(), multiprocessors=st.sampled_from((1, 132)), order=st.sampled_from(list(ORDERS)))
def test_tile_is_exact(
    library: Library,
    on_gpu: bool,
    products: tuple[str, ...],
    product: str,
    tile: int,
    case: ConvCase,
    multiprocessors: int,
    order: str,
) -> None:
    if product not in products:
        pytest.skip("only the executor plays every product")
    found = run_tile(library, on_gpu, order, case, kernel=tile, product=product, multiprocessors=multiprocessors)
    assert np.array_equal(found, case.accumulators())


@settings(max_examples=60)
@given(case=conv_cases() | conv_cases(groups=True))
def test_popcount_is_exact(library: Library, case: ConvCase) -> None:
    assert np.array_equal(case.run(library, kernel=library.popcount), case.accumulators())


@settings(max_examples=30)
@given(case=conv_cases() | conv_cases(groups=True), multiprocessors=st.integers(1, 200))
def test_chosen_kernel_is_exact(library: Library, case: ConvCase, multiprocessors: int) -> None:
    found = case.run(library, kernel=CHOOSE, multiprocessors=multiprocessors)
    assert np.array_equal(found, case.accumulators())


@pytest.mark.parametrize("tile", TILES)
def test_groups_are_refused_by_tiles(library: Library, generator: np.random.Generator, tile: int) -> None:
    case = random_case(generator, Levels.BIPOLAR, (1, 64, 4, 4), 8, (3, 3), group=2)
    with pytest.raises(CudaKernelError, match="tile kernels take no groups, found 2"):
        case.run(library, kernel=tile)


# ---- how a layer is cut


def test_bands(library: Library, generator: np.random.Generator, in_every_order: InEveryOrder) -> None:
    """Rows too long for shared memory: the columns are cut into bands, the narrower the less memory there is."""
    geometry = {"pads": (1, 1, 1, 2), "strides": (1, 2), "dilations": (2, 1)}
    case = random_case(generator, Levels.TERNARY, (2, 64, 9, 150), 33, (3, 3), **geometry)
    expected, ran = case.accumulators(), 0
    for kilobytes in (24, 16, 12, 10, 8, 6, 5, 4, 3):
        try:
            for found in in_every_order(case.run, library, kernel=3, shared_bytes=kilobytes << 10):
                assert np.array_equal(found, expected)
        except CudaKernelError as error:
            assert "shared memory" in str(error)
            break
        ran += 1
    assert 4 <= ran < 9


def test_images_are_one_line(library: Library, generator: np.random.Generator) -> None:
    """Tiles that begin and end within images, over many of them, and blocks that go from tile to tile."""
    for kernel, stride in (((3, 3), 1), ((3, 3), 2), ((1, 1), 2), ((1, 1), 3), ((5, 2), 4)):
        pads = (kernel[0] // 2,) * 4
        case = random_case(generator, Levels.UNIPOLAR, (23, 32, 5, 5), 8, kernel, strides=(stride,) * 2, pads=pads)
        expected = case.accumulators()
        for tile in TILES:
            assert np.array_equal(case.run(library, kernel=tile, multiprocessors=1), expected), (kernel, stride, tile)


# Layers of Bi-Real-Net-18 (channels, size of the image, batch), and the tile that an H100 gets: the largest one that is
# no more than half empty and leaves work for all of its multiprocessors, or the smallest that fits.
CHOICES = [
    (64, 56, 64, 1),
    (64, 56, 1, 3),
    (128, 28, 64, 0),
    (256, 14, 64, 0),
    (512, 7, 256, 0),
    (512, 7, 8, 3),
    (512, 7, 1, 3),
]


@pytest.mark.parametrize(("channels", "size", "batch", "tile"), CHOICES)
def test_choice_for_known_layers(library: Library, channels: int, size: int, batch: int, tile: int) -> None:
    case = ConvCase(Levels.BIPOLAR, np.empty((1, channels, 1, 1)), np.empty(0), pads=(1, 1, 1, 1))
    words = channels // 32
    planned = {"multiprocessors": 132, "shared_bytes": 227 << 10}
    shapes = (batch, size, size, words), (channels, 3, 3, words)
    assert library.chosen_kernel(case.layer(), *shapes, **planned) == tile


@settings(max_examples=60)
@given(
    case=conv_cases() | conv_cases(groups=True),
    multiprocessors=st.integers(1, 1000),
    shared_bytes=st.integers(1, 1 << 18),
)
def test_choice_is_total(library: Library, case: ConvCase, multiprocessors: int, shared_bytes: int) -> None:
    """There is always a kernel, and the one that is chosen runs."""
    planned = {"multiprocessors": multiprocessors, "shared_bytes": shared_bytes}
    kernel = library.chosen_kernel(case.layer(), case.packed().shape, case.weight_bits().shape, **planned)
    assert 0 <= kernel <= library.popcount
    if case.group > 1:
        assert kernel == library.popcount
    if kernel == library.popcount and case.group == 1:
        for tile in TILES:
            with pytest.raises(CudaKernelError, match="shared memory"):
                case.run(library, kernel=tile, **planned)


def test_no_images_are_no_work(library: Library, generator: np.random.Generator) -> None:
    case = random_case(generator, Levels.BIPOLAR, (0, 32, 4, 4), 8, (3, 3))
    for kernel in (*TILES, library.popcount):
        assert case.run(library, kernel=kernel).shape == (0, 8, 2, 2)


def test_image_without_pixels_is_all_padding(library: Library, generator: np.random.Generator) -> None:
    geometry = {"pads": (2, 1, 1, 2), "pad_value": 1}
    case = random_case(generator, Levels.BIPOLAR, (2, 32, 0, 4), 8, (2, 3), **geometry)
    for kernel in (*TILES, library.popcount):
        assert np.array_equal(case.run(library, kernel=kernel), case.accumulators())


def test_sums_beyond_16_bits(library: Library) -> None:
    """The greatest sums that there are, of either sign."""
    case = ConvCase(Levels.BIPOLAR, np.ones((1, 16384, 5, 5), np.int8), -np.ones((2, 16384, 5, 5), np.int8))
    assert case.run(library, kernel=library.popcount).ravel().tolist() == [-409600] * 2
    case = ConvCase(Levels.BIPOLAR, np.ones((1, 65536, 1, 1), np.int8), np.ones((1, 65536, 1, 1), np.int8))
    assert case.run(library, kernel=library.popcount).item() == 65536


# ---- the epilogue


@dataclass(frozen=True)
class Finished:
    """A layer with an epilogue: what it is given, and the outputs that have to come out."""

    case: ConvCase
    activation: str
    clip: tuple[float, float]
    operands: dict[str, Any]
    expected: dict[str, Any]
    form: dict[str, bool]

    def run(self, library: Library, **options: Any) -> dict[str, Any]:
        layer, outputs = self.case.layer(self.activation, self.clip), tuple(self.expected)
        packed, weight = self.case.packed(), self.case.weight_bits()
        return library.conv2d(layer, packed, weight, self.operands, outputs, **self.form, **options)


def finished_layer(generator: np.random.Generator, op_type: str, outputs: int, float16: bool, last: bool) -> Finished:
    """An op of `EPILOGUES`, with every kind of edge among its operands."""
    epilogue, kind = EPILOGUES[op_type], np.float16 if float16 else np.float32
    case = random_case(generator, Levels.BIPOLAR, (2, 33, 4, 5), outputs, (3, 3), pads=(1, 0, 1, 1))
    accumulators = case.accumulators()
    names = ["scale", "bias"] + (["slope", "shift"] if epilogue.activation == PRELU else [])
    operands = {name: with_edges(generator, (outputs,)) for name in names}
    operands["scale"][:4], operands["bias"][:4] = (1.0, -1.0, 2.0**-24, 2.0**-26), (2048.0, -0.0, 0.0, 2.0**-25)
    if epilogue.residual:
        operands["residual"] = round_to(kind, with_edges(generator, accumulators.shape))
    clip = [(-0.5, 1.5), (0.0, np.inf), (-np.inf, 6.0)][outputs % 3]
    z = finish(accumulators, operands, epilogue.activation, clip)
    expected = {"y": round_to(kind, z), "accumulator": accumulators}
    if epilogue.packs:
        # Every third bound is one of the values that it is compared with.
        ties, bounds = np.arange(outputs) % 3 == 0, with_edges(generator, (outputs,))
        operands["lower"] = np.where(ties, z[0, :, 0, 0], bounds)
        operands["upper"] = np.where(ties, z[1, :, 1, 1], np.float32(np.inf))
        expected["bits"] = packed_within(operands["lower"], z, operands["upper"])
    if last:
        expected["y"] = np.moveaxis(expected["y"], 1, -1)
        operands |= {name: np.moveaxis(operands[name], 1, -1) for name in operands if name == "residual"}
    return Finished(case, epilogue.activation, clip, operands, expected, {"float16": float16, "channels_last": last})


@pytest.mark.parametrize("outputs", [37, 40])
@pytest.mark.parametrize("last", [False, True], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("float16", [False, True], ids=["fp32", "fp16"])
@pytest.mark.parametrize("op_type", EPILOGUES)
def test_epilogue_is_equal_bit_for_bit(
    library: Library,
    generator: np.random.Generator,
    in_every_order: InEveryOrder,
    op_type: str,
    float16: bool,
    last: bool,
    outputs: int,
) -> None:
    layer = finished_layer(generator, op_type, outputs, float16, last)
    for kernel in (3, 1, library.popcount):
        for found in in_every_order(layer.run, library, kernel=kernel):
            assert {name: same_bits(found[name], layer.expected[name]) for name in found} == dict.fromkeys(found, True)


@pytest.mark.parametrize("outputs", [1, 8, 37, 64, 130])
def test_bits_of_the_accumulator(
    library: Library, generator: np.random.Generator, in_every_order: InEveryOrder, outputs: int
) -> None:
    case = random_case(generator, Levels.UNIPOLAR, (2, 64, 5, 6), outputs, (3, 3), pads=(1, 1, 1, 1))
    accumulators = case.accumulators()
    extremes = np.iinfo(np.int32)
    lower, upper = np.sort(generator.integers(-30, 30, (2, outputs)), axis=0).astype(np.int32)
    lower[1::4], upper[2::4] = extremes.min, extremes.max
    lower[::5] = accumulators[0, ::5, 0, 0]  # ties
    operands = {"accumulator_lower": lower, "accumulator_upper": upper}
    layer = Finished(case, "", (0.0, 0.0), operands, {"bits": packed_within(lower, accumulators, upper)}, {})
    for kernel in (3, 1, library.popcount):
        for found in in_every_order(layer.run, library, kernel=kernel):
            assert np.array_equal(found["bits"], layer.expected["bits"])


@pytest.mark.parametrize("float16", [False, True], ids=("float32", "float16"))
def test_output_need_not_be_aligned(library: Library, float16: bool) -> None:
    """TensorRT lays the outputs that it concatenates side by side."""
    layer, (packed, weight) = Conv2d(channels=32), (np.ones((1, 3, 3, 1), np.int32), np.ones((8, 1, 1, 1), np.int32))
    operands = {"scale": np.ones(8, np.float32), "bias": np.arange(8, dtype=np.float32)}
    size = 2 if float16 else 4
    with library.memory() as memory:
        call = library.conv2d_call(layer, packed.shape, weight.shape)
        call.layout, call.float16, call.kernel = 1, float16, 3
        call.packed, call.weight = memory.put(packed), memory.put(weight)
        call.scale, call.bias = (memory.put(operands[name]) for name in ("scale", "bias"))
        whole = np.zeros(1 + 9 * 8, np.float16 if float16 else np.float32)
        first = memory.put(whole)
        call.y, call.border = first + size, memory.put(np.zeros(128, np.int32))
        library.call("bnn_cuda_prepare", ctypes.byref(call), None)
        library.call("bnn_cuda_conv2d", ctypes.byref(call), None)
        memory.get(whole, first)
    assert whole[0] == 0
    assert (whole[1:].reshape(9, 8) == 32 + np.arange(8)).all()
