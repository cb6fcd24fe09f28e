"""Max-pooling of packed bits: OR over the window, AND where `flip` says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from driver import Library
from hypothesis import given, settings
from hypothesis import strategies as st

from bnn_deploy.bits import pack_bits


def pooled(bits: Any, flip: Any, kernel: tuple[int, int], strides: tuple[int, int], pads: tuple[int, ...]) -> Any:
    """bits: [N, H, W, C] bool, flip: [C] bool -> [N, H', W', C]. A padded pixel contributes nothing."""
    padded = np.pad(bits ^ flip, ((0, 0), (pads[0], pads[2]), (pads[1], pads[3]), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(1, 2))
    return windows[:, :: strides[0], :: strides[1]].any(axis=(-2, -1)) ^ flip


@settings(max_examples=60)
@given(
    channels=st.sampled_from((1, 31, 32, 33, 64, 70, 512)),
    size=st.tuples(st.integers(1, 15), st.integers(1, 15)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    pads=st.tuples(*[st.integers(0, 3)] * 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_pool(
    library: Library,
    in_every_order: Callable[..., Iterator[Any]],
    channels: int,
    size: tuple[int, int],
    kernel: tuple[int, int],
    strides: tuple[int, int],
    pads: tuple[int, int, int, int],
    seed: int,
) -> None:
    generator = np.random.default_rng(seed)
    kernel = tuple(min(kernel[i], size[i] + pads[i] + pads[i + 2]) for i in range(2))
    bits, flip = generator.random((2, *size, channels)) < 0.3, generator.random(channels) < 0.5
    expected = pack_bits(pooled(bits, flip, kernel, strides, pads))
    for found in in_every_order(library.max_pool, pack_bits(bits), pack_bits(flip), channels, kernel, strides, pads):
        assert np.array_equal(found, expected)


def test_unused_bits_stay_zero(library: Library) -> None:
    """33 channels, and rubbish in the 31 bits that are left of the second word, in what is pooled and in `flip`."""
    rubbish = np.full((1, 2, 2, 2), -1, np.int32)
    found = library.max_pool(rubbish, np.full(2, -1, np.int32), 33, (2, 2), (1, 1), (0, 0, 0, 0))
    assert found.ravel().tolist() == [-1, 1]
