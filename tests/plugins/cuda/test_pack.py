"""The packing kernels keep the bit contract, for every layout and type."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from conv_cases import round_to, with_edges
from driver import Library
from hypothesis import given, settings
from hypothesis import strategies as st

from bnn_deploy.bits import Levels, binarize, pack_bits, pack_levels

InEveryOrder = Callable[..., Iterator[Any]]
shapes = st.tuples(
    st.integers(1, 3), st.integers(1, 100) | st.sampled_from((128, 513)), st.integers(1, 9), st.integers(1, 9)
)
seeds = st.integers(0, 2**32 - 1)
layouts = pytest.mark.parametrize("last", [False, True], ids=["nchw", "nhwc"])
types = pytest.mark.parametrize("kind", [np.float32, np.float16], ids=["fp32", "fp16"])


def place(x: Any, last: bool) -> Any:
    """x: [N, C, H, W] as a kernel is given it."""
    return np.ascontiguousarray(np.moveaxis(x, 1, -1)) if last else x


@layouts
@types
@settings(max_examples=20)
@given(shape=shapes, levels=st.sampled_from(list(Levels)), per_channel=st.booleans(), seed=seeds)
def test_pack_is_the_bit_contract(
    library: Library,
    in_every_order: InEveryOrder,
    kind: type[np.floating],
    last: bool,
    shape: tuple[int, ...],
    levels: Levels,
    per_channel: bool,
    seed: int,
) -> None:
    generator = np.random.default_rng(seed)
    x = round_to(kind, with_edges(generator, shape))
    threshold = np.zeros(1, np.float32)
    if levels is not Levels.TERNARY and per_channel:
        threshold = with_edges(generator, (shape[1],))
    bounds = () if levels is Levels.TERNARY else (threshold,)
    real = binarize(x.astype(np.float32), levels, threshold.reshape(-1, 1, 1))
    expected = pack_levels(np.moveaxis(real, 1, -1), levels)
    for found in in_every_order(library.pack, levels.value, place(x, last), bounds, channels_last=last):
        assert np.array_equal(found, expected)


@layouts
@types
@settings(max_examples=20)
@given(shape=shapes, per_channel=st.tuples(st.booleans(), st.booleans()), seed=seeds)
def test_interval(
    library: Library,
    in_every_order: InEveryOrder,
    kind: type[np.floating],
    last: bool,
    shape: tuple[int, ...],
    per_channel: tuple[bool, bool],
    seed: int,
) -> None:
    generator = np.random.default_rng(seed)
    x = round_to(kind, with_edges(generator, shape))
    lower, upper = (with_edges(generator, (shape[1] if each else 1,)) for each in per_channel)
    inside = (lower.reshape(-1, 1, 1) <= x) & (x <= upper.reshape(-1, 1, 1))
    expected = pack_bits(np.moveaxis(inside, 1, -1))
    for found in in_every_order(library.pack, "interval", place(x, last), (lower, upper), channels_last=last):
        assert np.array_equal(found, expected)


@layouts
@pytest.mark.parametrize("shape", [(0, 3, 2, 2), (2, 3, 0, 2)])
def test_nothing_is_no_work(library: Library, last: bool, shape: tuple[int, ...]) -> None:
    x = place(np.zeros(shape, np.float32), last)
    assert library.pack("ternary", x, channels_last=last).size == 0
