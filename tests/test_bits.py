"""The bit contract: levels, packing, and the formulas that count bits instead of multiplying levels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from bnn_deploy.bits import (
    Levels,
    binarize,
    pack_bits,
    pack_levels,
    popcount,
    unpack_bits,
    unpack_levels,
    words_for,
)
from bnn_deploy.errors import InputRefused

VALUES = {Levels.BIPOLAR: (-1, 1), Levels.UNIPOLAR: (0, 1), Levels.TERNARY: (-1, 0, 1)}
channel_counts = st.integers(1, 100)


def draw_levels(levels: Levels, shape: tuple[int, ...], seed: int) -> NDArray[np.int8]:
    return np.random.default_rng(seed).choice(np.array(VALUES[levels], np.int8), size=shape)


@pytest.mark.parametrize(("channels", "words"), [(1, 1), (31, 1), (32, 1), (33, 2), (64, 2), (65, 3)])
def test_word_count(channels: int, words: int) -> None:
    assert words_for(channels) == words
    assert pack_bits(np.ones((2, channels), bool)).shape == (2, words)


@pytest.mark.parametrize("channel", [0, 1, 7, 8, 30, 31, 32, 63, 64])
def test_channel_c_is_bit_c_modulo_32_of_word_c_div_32(channel: int) -> None:
    bits = np.zeros(65, bool)
    bits[channel] = True
    words = pack_bits(bits)
    expected = np.zeros(3, np.uint32)
    expected[channel // 32] = 1 << (channel % 32)
    assert words.dtype == np.int32
    assert (words.view(np.uint32) == expected).all()


def test_bit_31_is_the_sign_bit() -> None:
    bits = np.zeros(32, bool)
    bits[31] = True
    assert pack_bits(bits).tolist() == [-(2**31)]
    assert pack_bits(np.ones(32, bool)).tolist() == [-1]


@given(channels=channel_counts, lead=st.lists(st.integers(1, 3), max_size=3), seed=st.integers(0, 2**32 - 1))
def test_bits_round_trip(channels: int, lead: list[int], seed: int) -> None:
    bits = np.random.default_rng(seed).random((*lead, channels)) < 0.5
    words = pack_bits(bits)
    assert words.shape == (*lead, words_for(channels))
    assert (unpack_bits(words, channels) == bits).all()


@given(channels=channel_counts)
def test_unused_high_bits_are_0(channels: int) -> None:
    last = int(pack_bits(np.ones(channels, bool)).view(np.uint32)[-1])
    assert last == 2 ** ((channels - 1) % 32 + 1) - 1


@pytest.mark.parametrize("levels", Levels)
@settings(max_examples=30)
@given(channels=channel_counts, seed=st.integers(0, 2**32 - 1))
def test_levels_round_trip(levels: Levels, channels: int, seed: int) -> None:
    values = draw_levels(levels, (2, channels), seed)
    words = pack_levels(values, levels)
    assert words.shape == (2, levels.planes * words_for(channels))
    assert (unpack_levels(words, channels, levels) == values).all()


def test_ternary_is_the_plane_of_plus_ones_then_the_plane_of_minus_ones() -> None:
    words = pack_levels(np.array([1, -1, 0, -1], np.int8), Levels.TERNARY)
    assert words.tolist() == [0b0001, 0b1010]


def test_packing_takes_arrays_in_any_memory_order() -> None:
    bits = np.random.default_rng(0).random((5, 40, 3)) < 0.5
    moved = np.moveaxis(bits, 1, -1)
    assert (pack_bits(moved) == pack_bits(np.ascontiguousarray(moved))).all()
    assert (unpack_bits(pack_bits(moved)[::2], 40) == moved[::2]).all()


@pytest.mark.parametrize(("channels", "found"), [(32, 2), (33, 1), (64, 3)])
def test_unpacking_refuses_a_wrong_word_count(channels: int, found: int) -> None:
    with pytest.raises(InputRefused, match=f"{found} words for {channels} channels"):
        unpack_bits(np.zeros((2, found), np.int32), channels)


@pytest.mark.parametrize("found", [1, 3, 4])
def test_unpacking_refuses_a_wrong_word_count_of_two_planes(found: int) -> None:
    with pytest.raises(InputRefused, match="words for 20 channels"):
        unpack_levels(np.zeros((2, found), np.int32), 20, Levels.TERNARY)


@pytest.mark.parametrize(
    ("value", "bipolar", "unipolar", "ternary"),
    [
        (0.0, 1, 0, 0),
        (-0.0, 1, 0, 0),
        (1e-45, 1, 1, 1),
        (-1e-45, -1, 0, -1),
        (3.5, 1, 1, 1),
        (-3.5, -1, 0, -1),
        (np.inf, 1, 1, 1),
        (-np.inf, -1, 0, -1),
        (np.nan, -1, 0, -1),
        (-np.nan, -1, 0, -1),
    ],
)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_levels_of_edges(value: float, bipolar: int, unipolar: int, ternary: int, dtype: type) -> None:
    if dtype is np.float16 and abs(value) == 1e-45:
        value = np.copysign(6e-8, value)  # the smallest denormal of that type
    x: NDArray[Any] = np.array([value], dtype)
    assert x[0] != 0 or value == 0, "the edge must not underflow"
    found = [int(binarize(x, levels)[0]) for levels in (Levels.BIPOLAR, Levels.UNIPOLAR, Levels.TERNARY)]
    assert found == [bipolar, unipolar, ternary]


def test_a_threshold_belongs_to_the_greater_level_of_bipolar_and_the_lesser_of_unipolar() -> None:
    x = np.array([0.5, 0.5, 0.25], np.float32)
    threshold = np.array([0.5, 0.75, 0.0], np.float32)
    assert binarize(x, Levels.BIPOLAR, threshold).tolist() == [1, -1, 1]
    assert binarize(x, Levels.UNIPOLAR, threshold).tolist() == [0, 0, 1]
    assert binarize(x, Levels.BIPOLAR, 0.25).tolist() == [1, 1, 1]


def test_levels_are_bytes_of_the_same_shape() -> None:
    y = binarize(np.zeros((2, 3, 4), np.float32), Levels.TERNARY)
    assert y.dtype == np.int8
    assert y.shape == (2, 3, 4)


@given(words=arrays.arrays(np.int32, st.tuples(st.integers(1, 3), st.integers(1, 4))))
def test_popcount(words: NDArray[np.int32]) -> None:
    expected = [sum(bin(int(word) % 2**32).count("1") for word in row) for row in words]
    assert popcount(words).tolist() == expected


def test_planes() -> None:
    assert [levels.planes for levels in (Levels.BIPOLAR, Levels.UNIPOLAR, Levels.TERNARY)] == [1, 1, 2]


class TestCountingFormulas:
    """With K channels, D = popcount(A & W), X = popcount(A ^ W), S = popcount(A): a dot product without a product."""

    @staticmethod
    def operands(levels: Levels, channels: int, seed: int) -> tuple[int, NDArray[np.int32], NDArray[np.int32]]:
        """(dot product, packed activations, packed weights)."""
        activations = draw_levels(levels, (channels,), seed)
        weights = draw_levels(Levels.BIPOLAR, (channels,), seed + 1)
        dot = sum(int(a) * int(w) for a, w in zip(activations, weights, strict=True))
        return dot, pack_levels(activations, levels), pack_levels(weights, Levels.BIPOLAR)

    @given(k=channel_counts, seed=st.integers(0, 2**31))
    def test_bipolar(self, k: int, seed: int) -> None:
        dot, a, w = self.operands(Levels.BIPOLAR, k, seed)
        assert dot == k - 2 * popcount(a ^ w)
        assert dot == 4 * popcount(a & w) - 2 * popcount(a) - 2 * popcount(w) + k

    @given(k=channel_counts, seed=st.integers(0, 2**31))
    def test_unipolar(self, k: int, seed: int) -> None:
        dot, a, w = self.operands(Levels.UNIPOLAR, k, seed)
        assert dot == 2 * popcount(a & w) - popcount(a)

    @given(k=channel_counts, seed=st.integers(0, 2**31))
    def test_ternary(self, k: int, seed: int) -> None:
        dot, a, w = self.operands(Levels.TERNARY, k, seed)
        p, n = np.split(a, 2)
        assert dot == 2 * (popcount(p & w) - popcount(n & w)) - popcount(p) + popcount(n)
