"""A fully connected layer: a 1x1 convolution over an image of one row, whose pixels are the batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from conv_cases import CODES, VALUES, finish, round_to, same_bits, with_edges
from driver import CHOOSE, Conv2d, Library
from hypothesis import given, settings
from hypothesis import strategies as st

from bnn_deploy.bits import Levels, pack_bits, pack_levels
from bnn_deploy.reference import accumulate_linear

InEveryOrder = Callable[..., Iterator[Any]]


def run_linear(library: Library, levels: Levels, x: Any, weight: Any, operands: dict[str, Any], **options: Any) -> Any:
    """x: [N, C], weight: [O, C], levels. Returns y: [N, O], or bits: [N, words] where there is no scale."""
    output = "y" if "scale" in operands else "bits"
    packed, bits = pack_levels(x, levels)[None, None], pack_bits(weight > 0)[:, None, None]
    layer = Conv2d(x.shape[1], CODES[levels])
    return library.conv2d(layer, packed, bits, operands, (output,), channels_last=True, **options)[output][0, 0]


@settings(max_examples=40)
@given(
    batch=st.integers(1, 70),
    channels=st.sampled_from((1, 31, 33, 64, 100, 512, 1100)),
    outputs=st.integers(1, 70) | st.sampled_from((10, 128, 300, 1000)),
    levels=st.sampled_from(list(Levels)),
    float16=st.booleans(),
    kernel=st.integers(CHOOSE, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_linear(
    library: Library,
    in_every_order: InEveryOrder,
    batch: int,
    channels: int,
    outputs: int,
    levels: Levels,
    float16: bool,
    kernel: int,
    seed: int,
) -> None:
    generator = np.random.default_rng(seed)
    x = generator.choice(np.array(VALUES[levels], np.int8), (batch, channels))
    weight = generator.choice(np.array((-1, 1), np.int8), (outputs, channels))
    sums = accumulate_linear(x, weight)
    kernel = library.popcount if kernel == 4 else 3 if channels > 512 else kernel

    reals = {name: with_edges(generator, (outputs,)) for name in ("scale", "bias")}
    expected = finish(sums.T[None, :, None], reals, "", (0, 0))[0, :, 0].T
    expected = round_to(np.float16 if float16 else np.float32, expected)
    for y in in_every_order(run_linear, library, levels, x, weight, reals, kernel=kernel, float16=float16):
        assert same_bits(y, expected)

    lower, upper = generator.integers(-20, 20, (2, outputs)).astype(np.int32)
    bounds = {"accumulator_lower": lower, "accumulator_upper": upper}
    for bits in in_every_order(run_linear, library, levels, x, weight, bounds, kernel=kernel):
        assert np.array_equal(bits, pack_bits((lower <= sums) & (sums <= upper)))


@pytest.mark.parametrize("batch", [1, 1000])
def test_classifier(library: Library, generator: np.random.Generator, batch: int) -> None:
    """Of one image and of many; the batch is the width of the image, and rows too long are cut into bands."""
    x, weight = (generator.choice(np.array((-1, 1), np.int8), (count, 512)) for count in (batch, 10))
    operands = {"scale": np.ones(10, np.float32), "bias": np.zeros(10, np.float32)}
    found = run_linear(library, Levels.BIPOLAR, x, weight, operands)
    assert np.array_equal(found, accumulate_linear(x, weight))
