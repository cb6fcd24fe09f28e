"""int8 products: which layers have their operands widened in shared memory, and exact integers with and without that.

On a GPU these run where its product is int8, from compute capability 10.0 on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from conv_cases import Array, ConvCase, conv_cases, random_case
from driver import ORDERS, PRODUCTS, Conv2d, CudaKernelError, Library, Plan
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bnn_deploy.bits import Levels

TILES = range(4)


@dataclass(frozen=True)
class Bytes:
    """A library that multiplies bytes.

    Attributes:
        product: Which one does.
        ample_bytes: Of shared memory. In the executor all operands fit, widened; a GPU has what it has.
    """

    library: Library
    product: str
    ample_bytes: int

    def plan(self, case: ConvCase, tile: int, shared_bytes: int) -> Plan:
        shapes = case.packed().shape, case.weight_bits().shape
        return self.library.plan(case.layer(), *shapes, tile, product=self.product, shared_bytes=shared_bytes)

    def run(self, case: ConvCase, tile: int, widened: bool, **options: Any) -> Array | None:
        """The accumulators, with the operands widened in shared memory or, one byte short of that, in registers.

        None where a GPU has too little shared memory.
        """
        shared_bytes = self.ample_bytes
        try:
            plan = self.plan(case, tile, shared_bytes)
        except CudaKernelError as error:
            assert shared_bytes == 0 and "shared memory" in str(error)
            return None
        if plan.widened and not widened:
            shared_bytes = plan.shared_bytes - 1
            plan = self.plan(case, tile, shared_bytes)
        if plan.widened != widened:
            assert shared_bytes == 0
            return None
        return case.run(self.library, kernel=tile, product=self.product, shared_bytes=shared_bytes, **options)


@pytest.fixture(scope="module")
def multiplier(library: Library, on_gpu: bool) -> Bytes:
    if on_gpu and library.device().compute_capability < 100:
        pytest.skip("this GPU multiplies bits")
    return Bytes(library, "native", 0) if on_gpu else Bytes(library, "int8", 1 << 23)


# The 3x3 layers of Bi-Real-Net-18 (channels, size of the image), and which tiles have them widened: with the 99 KiB of
# compute capability 12.0, and with the 227 KiB of 10.0.
WIDENED = [
    (64, 56, {1, 2, 3}, {0, 1, 2, 3}),
    (128, 28, {3}, {0, 1, 2, 3}),
    (256, 14, set(), {1, 2, 3}),
    (512, 7, set(), {3}),
]


@pytest.mark.parametrize(("channels", "size", "within_99", "within_227"), WIDENED)
def test_layers_that_are_widened(
    multiplier: Bytes, on_gpu: bool, channels: int, size: int, within_99: set[int], within_227: set[int]
) -> None:
    layer, words = Conv2d(channels, pads=(1, 1, 1, 1)), channels // 32
    shapes = (64, size, size, words), (channels, 3, 3, words)

    def widened(kilobytes: int, product: str) -> set[int]:
        found = set()
        for tile in TILES:
            try:
                plan = multiplier.library.plan(layer, *shapes, tile, product=product, shared_bytes=kilobytes << 10)
            except CudaKernelError as error:
                assert "shared memory" in str(error)
                continue
            found |= {tile} if plan.widened else set()
        return found

    assert widened(99, multiplier.product) == within_99
    assert widened(227, multiplier.product) == within_227
    if not on_gpu:
        assert widened(227, "xor") == widened(227, "and") == set()


def test_a_plan_takes_what_it_says(multiplier: Bytes, generator: np.random.Generator) -> None:
    case = random_case(generator, Levels.BIPOLAR, (1, 64, 5, 5), 8, (3, 3))
    widened = multiplier.plan(case, 3, 99 << 10)
    assert multiplier.plan(case, 3, widened.shared_bytes) == widened
    narrow = multiplier.plan(case, 3, widened.shared_bytes - 1)
    assert widened.widened and not narrow.widened
    assert narrow.shared_bytes < widened.shared_bytes
    with pytest.raises(CudaKernelError, match=f"more shared memory than {narrow.shared_bytes - 1} bytes"):
        multiplier.plan(case, 3, narrow.shared_bytes - 1)


def test_no_band_is_cut_to_widen(multiplier: Bytes, generator: np.random.Generator) -> None:
    """A row of bits that fits is not cut for the sake of bytes that do not."""
    case = random_case(generator, Levels.BIPOLAR, (1, 64, 8, 300), 32, (3, 3))
    whole = multiplier.plan(case, 3, 1 << 20)
    assert whole.widened
    narrow = multiplier.plan(case, 3, whole.shared_bytes - 1)
    assert not narrow.widened
    assert multiplier.plan(case, 3, narrow.shared_bytes) == narrow
    assert multiplier.plan(case, 3, narrow.shared_bytes - 1).shared_bytes < narrow.shared_bytes  # of half a row


@pytest.mark.parametrize(("channels", "size"), [row[:2] for row in WIDENED])
def test_the_choice_is_that_of_other_products(library: Library, channels: int, size: int) -> None:
    layer, words = Conv2d(channels, pads=(1, 1, 1, 1)), channels // 32
    shapes = (64, size, size, words), (channels, 3, 3, words)
    planned = {"multiprocessors": 170, "shared_bytes": 99 << 10}
    codes = PRODUCTS.values()
    assert len({library.chosen_kernel(layer, *shapes, product=code, **planned) for code in codes}) == 1


@pytest.mark.parametrize("widened", [False, True], ids=["in registers", "in shared memory"])
@pytest.mark.parametrize("tile", TILES)
@settings(max_examples=12)
@given(case=conv_cases(), multiprocessors=st.sampled_from((1, 132)), order=st.sampled_from(list(ORDERS)))
def test_either_way_is_exact(
    multiplier: Bytes, on_gpu: bool, tile: int, widened: bool, case: ConvCase, multiprocessors: int, order: str
) -> None:
    if not on_gpu:
        multiplier.library.order(order, seed=1)
    try:
        found = multiplier.run(case, tile, widened, multiprocessors=multiprocessors)
    finally:
        if not on_gpu:
            multiplier.library.order("ascending")
    assume(found is not None)
    assert np.array_equal(found, case.accumulators())


# Geometry, and the shape of x: several tiles for a block and several images, with 1, 2, 3, 4 and 6 words for a tap.
GEOMETRIES: list[tuple[dict[str, Any], tuple[int, int, int, int]]] = [
    ({"pads": (1, 1, 1, 1)}, (3, 33, 13, 14)),
    ({"pads": (1, 1, 1, 1), "strides": (2, 2)}, (3, 96, 17, 18)),
    ({"pads": (2, 2, 2, 2), "dilations": (2, 2)}, (2, 128, 14, 15)),
    ({"pads": (2, 0, 1, 3), "strides": (2, 1), "dilations": (1, 2)}, (3, 1, 19, 17)),
    ({"pads": (0, 1, 2, 0)}, (2, 191, 10, 11)),
]


@pytest.mark.parametrize("widened", [False, True], ids=["in registers", "in shared memory"])
@pytest.mark.parametrize("pad_value", [-1, 0, 1])
@pytest.mark.parametrize("levels", Levels)
def test_geometries_are_exact(
    multiplier: Bytes, on_gpu: bool, generator: np.random.Generator, levels: Levels, pad_value: int, widened: bool
) -> None:
    for index, (geometry, shape) in enumerate(GEOMETRIES):
        case = random_case(generator, levels, shape, 37, (3, 3), pad_value=pad_value, **geometry)
        found = multiplier.run(case, (3 - index) % 4, widened, multiprocessors=1)
        if not (on_gpu and found is None):
            assert np.array_equal(found, case.accumulators()), geometry
