"""Forward and gradients of the functions, against float64 formulas in numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bnn_deploy.errors import InputRefused
from bnn_deploy.nn import functional
from bnn_deploy.nn.functional import ConvGeometry, WeightBinarization

EDGES = [0.0, -0.0, 5e-324, -5e-324, 0.5, -0.5, 1.0, -1.0, 1.3, -1.3, 1e20, -1e20, math.inf, -math.inf, math.nan]
numbers = st.one_of(st.sampled_from(EDGES), st.floats(-2.0, 2.0), st.floats())


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize(("zero", "expected"), [("one", [1, 1, 1, -1, 1, -1, -1]), ("zero", [0, 0, 1, -1, 1, -1, -1])])
def test_sign_at_the_edges(dtype: torch.dtype, zero: str, expected: list[float]) -> None:
    smallest = torch.finfo(dtype).smallest_normal
    x = torch.tensor([0.0, -0.0, smallest, -smallest, math.inf, -math.inf, math.nan], dtype=dtype)
    y = functional.sign(x, zero)
    assert y.dtype == dtype
    assert y.tolist() == expected


def numpy_sign(x: np.ndarray, zero: str) -> np.ndarray:
    return np.where(x > 0, 1.0, np.where(x == 0, 1.0 if zero == "one" else 0.0, -1.0))


@settings(deadline=None, max_examples=60)
@given(
    values=st.lists(numbers, min_size=1, max_size=12),
    ste=st.sampled_from(functional.STE_KINDS),
    clip=st.sampled_from([0.25, 1.0, 1.3, math.inf]),
    zero=st.sampled_from(functional.ZERO_KINDS),
)
def test_binarize_value_and_gradient(values: list[float], ste: str, clip: float, zero: str) -> None:
    x = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    g = torch.linspace(-2, 3, len(values), dtype=torch.float64)
    y = functional.binarize(x, ste=ste, clip=clip, zero=zero)
    y.backward(g)

    v = np.array(values)
    expected = g.numpy().copy()
    if ste == "polynomial":
        slope = np.zeros_like(v)
        for i, value in enumerate(values):
            if -1 <= value < 0:
                slope[i] = 2 + 2 * value
            elif 0 <= value < 1:
                slope[i] = 2 - 2 * value
        expected *= slope
    if clip != math.inf:
        expected = np.where(np.abs(v) <= clip, expected, 0.0)
    assert y.tolist() == numpy_sign(v, zero).tolist()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-14, atol=0)


def test_binarize_does_not_write_to_its_input() -> None:
    x = torch.randn(4, 5)
    before = x.clone()
    functional.binarize(x)
    assert x._version == 0
    assert torch.equal(x, before)


@pytest.mark.parametrize(("option", "value"), [("ste", "tanh"), ("zero", "minus")])
def test_binarize_names_an_unknown_option(option: str, value: str) -> None:
    with pytest.raises(InputRefused, match=rf"layer9: {option}='{value}'.*wanted: one of"):
        functional.binarize(torch.zeros(1), layer="layer9", **{option: value})


@pytest.mark.parametrize("option", ["scale", "gradient", "zero"])
def test_weight_binarization_names_an_unknown_option(option: str) -> None:
    with pytest.raises(InputRefused, match=f"{option}='strange'.*one of"):
        WeightBinarization(**{option: "strange"})


def numpy_alpha(w: np.ndarray, scale: str, clamp: bool) -> np.ndarray:
    magnitude = np.minimum(np.abs(w), 1) if clamp else np.abs(w)
    if scale == "none":
        return np.ones((len(w), 1))
    if scale == "tensor":
        return np.full((len(w), 1), magnitude.sum() / magnitude.size)
    return magnitude.sum(axis=1, keepdims=True) / magnitude.shape[1]


@settings(deadline=None, max_examples=80)
@given(
    rows=st.lists(
        st.lists(st.one_of(st.sampled_from([0.0, -0.0, 1.0, -1.0, 1.5]), st.floats(-3, 3)), min_size=3, max_size=3),
        min_size=1,
        max_size=4,
    ),
    scale=st.sampled_from(["none", "tensor", "channel"]),
    gradient=st.sampled_from(functional.WEIGHT_GRADIENTS),
    threshold=st.sampled_from([0.5, 1.3, math.inf]),
    clamp=st.booleans(),
    zero=st.sampled_from(functional.ZERO_KINDS),
)
def test_binarize_weight_value_and_gradient(
    rows: list[list[float]], scale: str, gradient: str, threshold: float, clamp: bool, zero: str
) -> None:
    v = np.array(rows)
    alpha = numpy_alpha(v, scale, clamp)
    # A weight exactly on the band's edge may fall on either side, for the two means round differently.
    band = threshold * np.where(alpha == 0, 1.0, alpha)
    assume(not np.any(np.abs(np.abs(v) - band) < 1e-9) or gradient != "straight_through")
    spec = WeightBinarization(scale=scale, gradient=gradient, threshold=threshold, clamp=clamp, zero=zero)
    w = torch.tensor(v.reshape(len(rows), 1, 3, 1), requires_grad=True)
    g = np.linspace(-1, 2, v.size).reshape(v.shape)
    y = functional.binarize_weight(w, spec)
    y.backward(torch.tensor(g.reshape(w.shape)))

    if gradient == "straight_through":
        expected = g * (np.abs(v) <= band)
    elif gradient == "xnor":
        shared = {"none": v.size, "tensor": v.size, "channel": v.shape[1]}[scale]
        expected = g * (alpha * (np.abs(v) <= 1) + 1 / shared)
    else:
        expected = g * (np.abs(v) <= 1)
    assert w.grad is not None
    np.testing.assert_allclose(y.detach().numpy().reshape(v.shape), alpha * numpy_sign(v, zero), rtol=1e-14, atol=0)
    np.testing.assert_allclose(w.grad.numpy().reshape(v.shape), expected, rtol=1e-14, atol=0)


def test_a_layer_of_zeros_still_gets_gradients() -> None:
    w = torch.zeros(2, 3, requires_grad=True)
    functional.binarize_weight(w, WeightBinarization("tensor", "straight_through")).sum().backward()
    assert w.grad is not None
    assert w.grad.tolist() == [[1, 1, 1]] * 2


@pytest.mark.parametrize("scale", ["tensor", "channel"])
def test_weights_whose_mean_rounds_to_zero_still_get_gradients(scale: str) -> None:
    w = torch.tensor([[5e-324, 0.0, 0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    y = functional.binarize_weight(w, WeightBinarization(scale, "straight_through"))
    assert y.tolist() == [[0, 0, 0, 0]]
    y.sum().backward()
    assert w.grad is not None
    assert w.grad.tolist() == [[1, 1, 1, 1]]


def test_the_band_scales_with_alpha() -> None:
    w = torch.tensor([[0.1, 0.1, 0.1, 0.5]], requires_grad=True)  # alpha 0.2, band 0.26
    functional.binarize_weight(w, WeightBinarization("tensor", "straight_through", threshold=1.3)).sum().backward()
    assert w.grad is not None
    assert w.grad.tolist() == [[1, 1, 1, 0]]


@pytest.mark.parametrize("scale", ["none", "tensor", "channel"])
def test_weight_scale_has_the_rank_of_the_weight(scale: str) -> None:
    alpha = functional.weight_scale(torch.randn(5, 2, 3, 3, requires_grad=True), WeightBinarization(scale=scale))
    assert alpha.shape == ((5, 1, 1, 1) if scale == "channel" else (1, 1, 1, 1))
    assert not alpha.requires_grad


def numpy_conv(x: np.ndarray, w: np.ndarray, bias: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """A direct convolution: one tap at a time, one output channel at a time."""
    (sy, sx), (py, px), (dy, dx) = geometry.stride, geometry.padding, geometry.dilation
    padded = np.pad(x, ((0, 0), (0, 0), (py, py), (px, px)), constant_values=geometry.pad_value)
    outputs, per_group, kh, kw = w.shape
    height = (padded.shape[2] - dy * (kh - 1) - 1) // sy + 1
    width = (padded.shape[3] - dx * (kw - 1) - 1) // sx + 1
    y = np.zeros((len(x), outputs, height, width)) + bias.reshape(1, -1, 1, 1)
    for o in range(outputs):
        first = o // (outputs // geometry.groups) * per_group
        for c in range(per_group):
            for i in range(kh):
                for j in range(kw):
                    rows = slice(i * dy, i * dy + (height - 1) * sy + 1, sy)
                    columns = slice(j * dx, j * dx + (width - 1) * sx + 1, sx)
                    y[:, o] += w[o, c, i, j] * padded[:, first + c, rows, columns]
    return y


pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@settings(deadline=None, max_examples=40)
@given(
    kernel=pairs,
    stride=pairs,
    dilation=pairs,
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    groups=st.integers(1, 3),
    channels=st.integers(1, 3),
    pad_value=st.sampled_from([0.0, 1.0, -1.0]),
    batch=st.integers(0, 2),
    extra=st.tuples(st.integers(0, 4), st.integers(0, 4)),
)
def test_binary_conv2d_is_a_convolution_of_signs(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    padding: tuple[int, int],
    groups: int,
    channels: int,
    pad_value: float,
    batch: int,
    extra: tuple[int, int],
) -> None:
    geometry = ConvGeometry(stride, padding, dilation, groups, pad_value)
    size = [dilation[i] * (kernel[i] - 1) + 1 + extra[i] for i in (0, 1)]
    generator = np.random.default_rng(7)
    x = numpy_sign(generator.normal(size=(batch, channels * groups, *size)), "one")
    w = generator.normal(size=(2 * groups, channels, *kernel))
    bias = generator.normal(size=2 * groups)
    y = functional.binary_conv2d(
        torch.tensor(x), torch.tensor(w), torch.tensor(bias), geometry=geometry, spec=WeightBinarization()
    )

    alpha = numpy_alpha(w.reshape(len(w), -1), "channel", True).reshape(-1, 1, 1, 1)
    expected = numpy_conv(x, alpha * numpy_sign(w, "one"), bias, geometry)
    np.testing.assert_allclose(y.numpy(), expected, rtol=0, atol=1e-12)
    assert geometry.output_size((size[0], size[1]), kernel) == tuple(y.shape[2:])


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 4, 3), (0, 3)])
def test_binary_linear_on_any_leading_axes(shape: tuple[int, ...]) -> None:
    x, w, bias = torch.randn(shape, dtype=torch.float64), torch.randn(5, 3).double(), torch.randn(5).double()
    y = functional.binary_linear(x, w, bias, spec=WeightBinarization("none", "straight_through"))
    expected = x.numpy() @ numpy_sign(w.numpy(), "one").T + bias.numpy()
    np.testing.assert_allclose(y.numpy(), expected, rtol=0, atol=1e-13)
