"""Batches, sizes and hard values, for files of open and of fixed shapes."""

from __future__ import annotations

import numpy as np
import pytest

from bnn_deploy.parity.inputs import (
    BATCHES,
    LARGE_IMAGE_BATCHES,
    adversarial_cases,
    batches_of,
    concrete,
    is_finite,
    random_case,
    resized,
    sizes_of,
)

OPEN = {"x": (None, 3, 8, 10)}
EXPORTED = [[1, 3, 8, 10]]


def test_batches() -> None:
    assert batches_of(OPEN, EXPORTED, []) == list(BATCHES) == [1, 2, 7, 32]
    assert batches_of(OPEN, EXPORTED, [], 8) == [1, 2, 7]
    assert batches_of(OPEN, EXPORTED, [5, 3, 5], 1) == [5, 3]
    assert batches_of({"x": (4, 3, 8, 10)}, EXPORTED, [5]) == [4]
    assert batches_of({"x": (None, 3, 224, 224)}, [[1, 3, 224, 224]], []) == list(LARGE_IMAGE_BATCHES)


def test_sizes_where_both_are_open() -> None:
    assert sizes_of(OPEN, EXPORTED) == []
    sizes = sizes_of({"x": (None, 3, None, None)}, EXPORTED)
    assert sizes and all(height > 0 and width > 0 and height != width for height, width in sizes)
    assert any(height > 8 for height, _ in sizes) and any(height < 8 for height, _ in sizes)


def test_shapes() -> None:
    shapes = {"image": (None, 3, None, None), "vector": (None, 6)}
    found = concrete(shapes, [[1, 3, 8, 10], [1, 6]], 7)
    assert found == {"image": (7, 3, 8, 10), "vector": (7, 6)}
    assert resized(found, (5, 6)) == {"image": (7, 3, 5, 6), "vector": (7, 6)}


def test_random_inputs_are_their_seed() -> None:
    first, again, other = (random_case("r", "", {"x": (1, 3, 4, 4)}, seed).feeds["x"] for seed in (0, 0, 1))
    assert first.shape == (1, 3, 4, 4) and first.dtype == np.float32
    assert (first == again).all() and (first != other).any()


@pytest.mark.parametrize("batch", [1, 2, 8])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_hard_values(batch: int, precision: str) -> None:
    cases = adversarial_cases({"x": (batch, 2, 4, 4), "v": (batch, 3)}, 0, precision)
    assert len({case.name for case in cases}) == len(cases)
    assert all(case.feeds["x"].shape == (batch, 2, 4, 4) and case.feeds["v"].shape == (batch, 3) for case in cases)
    assert all(case.finite == is_finite(case.feeds) for case in cases)
    values = np.concatenate([case.feeds["x"].reshape(batch, -1) for case in cases])
    zeros = values[(values == 0).all(axis=1)]
    assert any(np.signbit(row).all() for row in zeros) and any(not np.signbit(row).any() for row in zeros)
    assert np.isnan(values).all(axis=1).any() and np.isposinf(values).any() and np.isneginf(values).any()
    finite = np.abs(values[np.isfinite(values).all(axis=1)])
    assert finite.max() > (1e29 if precision == "fp32" else 1e2)
    tiny = finite[(finite > 0) & (finite < (1e-38 if precision == "fp32" else 6e-5))]
    assert tiny.size
    assert any((row == row[0]).all() and row[0] == 1 for row in values)
