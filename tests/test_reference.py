"""The reference, against seven loops over integers and against PyTorch in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bnn_deploy.reference import Geometry, accumulate_conv2d, accumulate_linear, convolve_real, epilogue


def seven_loops(x: NDArray[Any], weight: NDArray[Any], g: Geometry) -> NDArray[np.int64]:
    """The sums of a convolution, one tap at a time, in Python integers. A tap outside the image reads `pad_value`."""
    batch, _, height, width = x.shape
    outputs, group_width, kernel_rows, kernel_columns = weight.shape
    top, left, bottom, right = g.pads
    rows = (height + top + bottom - g.dilations[0] * (kernel_rows - 1) - 1) // g.strides[0] + 1
    columns = (width + left + right - g.dilations[1] * (kernel_columns - 1) - 1) // g.strides[1] + 1
    y = np.zeros((batch, outputs, rows, columns), np.int64)
    for n in range(batch):
        for o in range(outputs):
            first = o * g.group // outputs * group_width
            for i in range(rows):
                for j in range(columns):
                    for c in range(group_width):
                        for ki in range(kernel_rows):
                            for kj in range(kernel_columns):
                                row = i * g.strides[0] + ki * g.dilations[0] - top
                                column = j * g.strides[1] + kj * g.dilations[1] - left
                                inside = 0 <= row < height and 0 <= column < width
                                tap = int(x[n, first + c, row, column]) if inside else int(g.pad_value)
                                y[n, o, i, j] += tap * int(weight[o, c, ki, kj])
    return y


pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    return Geometry(
        strides=draw(pairs),
        pads=draw(st.tuples(*[st.integers(0, 3)] * 4)),
        dilations=draw(pairs),
        group=draw(st.integers(1, 3)),
        pad_value=draw(st.sampled_from([-1.0, 0.0, 1.0])),
    )


@settings(max_examples=60)
@given(
    geometry=geometries(),
    per_group=st.integers(1, 3),
    share=st.integers(1, 2),
    kernel=pairs,
    extra=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    levels=st.sampled_from([(-1, 1), (0, 1), (-1, 0, 1)]),
    seed=st.integers(0, 2**31),
)
def test_accumulators_equal_seven_loops(
    geometry: Geometry,
    per_group: int,
    share: int,
    kernel: tuple[int, int],
    extra: tuple[int, int],
    levels: tuple[int, ...],
    seed: int,
) -> None:
    size = [geometry.dilations[i] * (kernel[i] - 1) + 1 + extra[i] for i in (0, 1)]
    generator = np.random.default_rng(seed)
    x = generator.choice(np.array(levels, np.int8), size=(2, per_group * geometry.group, *size))
    weight = generator.choice(np.array([-1, 1], np.int8), size=(share * geometry.group, per_group, *kernel))
    found = accumulate_conv2d(x, weight, geometry)
    assert found.dtype == np.int32
    expected = seven_loops(x, weight, geometry)
    assert found.shape == expected.shape
    assert (found == expected).all()


BIGGER = [
    Geometry(pads=(1, 1, 1, 1)),
    Geometry(strides=(2, 2), pads=(1, 1, 1, 1)),
    Geometry(strides=(1, 2), pads=(2, 0, 2, 0), dilations=(2, 1), group=4),
]


@pytest.mark.parametrize("geometry", BIGGER)
@pytest.mark.parametrize("real", [False, True])
def test_bigger_ones_equal_pytorch(geometry: Geometry, real: bool) -> None:
    generator = np.random.default_rng(0)
    drawn = generator.standard_normal((2, 128, 14, 13))
    x: NDArray[Any] = drawn if real else np.sign(drawn).astype(np.int8)
    weight = generator.choice(np.array([-1, 1], np.int8), size=(32, 128 // geometry.group, 3, 3))
    expected = F.conv2d(
        torch.from_numpy(x).double(),
        torch.from_numpy(weight).double(),
        stride=geometry.strides,
        padding=geometry.pads[:2],
        dilation=geometry.dilations,
        groups=geometry.group,
    ).numpy()
    if real:
        # float64, 1152 taps, in another order of summation
        np.testing.assert_allclose(convolve_real(x, weight, geometry), expected, rtol=0, atol=1e-12)
    else:
        assert (accumulate_conv2d(x, weight, geometry) == expected).all()


def test_padding_may_differ_on_every_side() -> None:
    x = np.ones((1, 1, 2, 2), np.int8)
    weight = np.ones((1, 1, 1, 1), np.int8)
    y = accumulate_conv2d(x, weight, Geometry(pads=(1, 2, 3, 4), pad_value=-1))
    assert y.shape == (1, 1, 1 + 2 + 3, 2 + 2 + 4)
    assert y.sum() == 4 - (6 * 8 - 4)
    assert (y[0, 0, 1:3, 2:4] == 1).all()


def test_real_activations_pass_through_at_full_precision() -> None:
    x = np.array([1e300, 1.0, np.nan, np.inf]).reshape(1, 1, 1, 4)
    y = convolve_real(x, np.array([[[[-1]]]], np.int8), Geometry())
    assert y.dtype == np.float64
    np.testing.assert_array_equal(y.ravel(), [-1e300, -1.0, np.nan, -np.inf])


@settings(max_examples=40)
@given(
    lead=st.lists(st.integers(1, 3), max_size=2), c=st.integers(1, 70), o=st.integers(1, 5), seed=st.integers(0, 2**31)
)
def test_linear_equals_loops(lead: list[int], c: int, o: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    x = generator.choice(np.array([-1, 0, 1], np.int8), size=(*lead, c))
    weight = generator.choice(np.array([-1, 1], np.int8), size=(o, c))
    found = accumulate_linear(x, weight)
    assert found.dtype == np.int32
    assert found.shape == (*lead, o)
    for index in np.ndindex(*lead):
        for output in range(o):
            assert found[(*index, output)] == sum(
                int(a) * int(w) for a, w in zip(x[index], weight[output], strict=True)
            )


def test_linear_does_not_wrap_around_at_the_size_of_its_operands() -> None:
    assert accumulate_linear(np.ones((1, 70_000), np.int8), np.ones((1, 70_000), np.int8)).tolist() == [[70_000]]


def test_epilogue_is_per_channel_and_in_float64() -> None:
    accumulator = np.array([[[3, -3]], [[1, 7]]], np.int32)  # [O, 1, 2]
    scale, bias = np.array([1 / 3, 2], np.float32), np.array([0.1, -1], np.float32)
    y = epilogue(accumulator, scale, bias, channel_axis=0)
    third, tenth = float(np.float32(1 / 3)), float(np.float32(0.1))
    assert y.dtype == np.float64
    assert y.tolist() == [[[third * 3 + tenth, third * -3 + tenth]], [[1.0, 13.0]]]


def test_epilogue_on_the_last_axis() -> None:
    y = epilogue(np.array([[1, 2]], np.int32), np.array([10, 100]), np.array([1, 2]), channel_axis=-1)
    assert y.tolist() == [[11, 202]]
