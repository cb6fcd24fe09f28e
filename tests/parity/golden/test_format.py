"""The canonical layout of levels and its hash."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnn_deploy.bits import Levels
from bnn_deploy.parity.golden.format import OWN_HASH, PackedLevels, sha256_of_integers, sha256_of_manifest


@settings(deadline=None, max_examples=40)
@given(
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    channels=st.sampled_from([1, 31, 32, 33, 70]),
    axis=st.integers(-4, 3),
    lowest=st.sampled_from([-1, 0]),
    zeros=st.booleans(),
    seed=st.integers(0, 99),
)
def test_levels_survive(shape: list[int], channels: int, axis: int, lowest: int, zeros: bool, seed: int) -> None:
    axis = max(-len(shape) - 1, min(axis, len(shape)))
    shape.insert(axis if axis >= 0 else len(shape) + 1 + axis, channels)
    generator = np.random.default_rng(seed)
    values = generator.integers(lowest, 2, shape).astype(np.int8)
    if not zeros:
        values[values == 0] = 1
    packed, words = PackedLevels.of(values, axis)
    assert packed.levels is (Levels.TERNARY if (values == 0).any() else Levels.BIPOLAR)
    again = PackedLevels.from_json(json.loads(json.dumps(packed.to_json())))
    assert again == packed
    np.testing.assert_array_equal(again.unpack(words.reshape(-1)), values)


def test_channel_0_is_the_lowest_bit_of_the_last_axis() -> None:
    values = -np.ones((1, 33, 2, 1), np.int8)
    values[0, 0, 1, 0] = values[0, 32, 0, 0] = 1
    packed, words = PackedLevels.of(values, 1)
    assert words.tolist() == [[[[0, 1]], [[1, 0]]]]
    content = b"\0\0\0\0\1\0\0\0\1\0\0\0\0\0\0\0"
    assert packed.sha256 == hashlib.sha256(content).hexdigest()


def test_zero_is_told_from_minus_one() -> None:
    zero, words = PackedLevels.of(np.array([[1, 0]], np.int8), 1)
    minus, _ = PackedLevels.of(np.array([[1, -1]], np.int8), 1)
    assert zero.sha256 != minus.sha256
    assert words.tolist() == [[1, 0]]  # plane P, plane N


@pytest.mark.parametrize("values", [np.arange(6).reshape(2, 3), np.arange(6.0).reshape(2, 3), np.arange(6)[None]])
def test_integers_are_hashed_as_little_endian_int32(values: Any) -> None:
    expected = hashlib.sha256(b"".join(value.to_bytes(4, "little") for value in range(6))).hexdigest()
    assert sha256_of_integers(values) == expected
    assert sha256_of_integers(np.asfortranarray(values)) == expected


def test_a_manifest_hash_covers_all_but_itself() -> None:
    manifest = {"a": 1, "b": [1.5, "x"]}
    own = sha256_of_manifest(manifest)
    assert sha256_of_manifest({"b": [1.5, "x"], "a": 1, OWN_HASH: own}) == own
    assert sha256_of_manifest({"a": 2, "b": [1.5, "x"]}) != own
