"""The activations, against formulas in numpy float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn as torch_nn

from bnn_deploy import nn
from bnn_deploy.errors import InputRefused

X = [-math.inf, -1e20, -2.0, -1.0, -0.75, -0.25, -0.0, 0.0, 0.25, 0.75, 1.0, 1.5, 1e20, math.inf]
SIGN = [-1, -1, -1, -1, -1, -1, 1, 1, 1, 1, 1, 1, 1, 1]
BIREAL = [0, 0, 0, 0, 0.5, 1.5, 2, 2, 1.5, 0.5, 0, 0, 0, 0]


def run(module: torch_nn.Module, values: list[float], dtype: torch.dtype = torch.float64) -> tuple[list, list]:
    """(values, gradients of their sum)."""
    x = torch.tensor(values, dtype=dtype, requires_grad=True)
    y = module(x)
    y.sum().backward()
    assert x.grad is not None
    return y.tolist(), x.grad.tolist()


@pytest.mark.parametrize("cls", [nn.BirealBinaryActivation, nn.ApproxSign])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bireal_gradient_is_the_polynomials_and_always_finite(
    cls: type[nn.BirealBinaryActivation], dtype: torch.dtype
) -> None:
    assert run(cls(), X, dtype) == (SIGN, BIREAL)


@pytest.mark.parametrize("cls", [nn.BirealBinaryActivation, nn.ApproxSign])
def test_bireal_makes_nan_minus_one_without_a_gradient(cls: type[nn.BirealBinaryActivation]) -> None:
    assert run(cls(), [math.nan]) == ([-1], [0])


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-1.5, 1.5), min_size=1, max_size=20))
def test_bireal_gradient_between_the_corners(values: list[float]) -> None:
    _, gradient = run(nn.BirealBinaryActivation(), values)
    v = np.array(values)
    expected = np.where((v >= -1) & (v < 0), 2 + 2 * v, np.where((v >= 0) & (v < 1), 2 - 2 * v, 0))
    np.testing.assert_allclose(gradient, expected, rtol=1e-14, atol=0)


def test_straight_through_passes_every_gradient() -> None:
    assert run(nn.StraightThroughBinaryActivation(0), X) == (SIGN, [1] * len(X))


def test_straight_through_method_minus_one_is_the_identity() -> None:
    assert run(nn.StraightThroughBinaryActivation(-1), X) == (X, [1] * len(X))


@pytest.mark.parametrize("clip", [0.75, 1.0, 1.5])
def test_ste_sign_keeps_gradients_up_to_its_clip(clip: float) -> None:
    assert run(nn.SteSign(clip), X) == (SIGN, [float(abs(value) <= clip) for value in X])


def test_ste_sign_without_a_clip() -> None:
    assert run(nn.SteSign(math.inf), X) == (SIGN, [1] * len(X))


@pytest.mark.parametrize(
    "make",
    [
        nn.BirealBinaryActivation,
        nn.ApproxSign,
        nn.StraightThroughBinaryActivation,
        nn.SteSign,
        lambda **options: nn.RSign(3, **options),
    ],
)
def test_zero_is_a_choice(make: Callable[..., torch_nn.Module]) -> None:
    x = torch.tensor([0.0, -0.0, 2.0]).reshape(1, 3, 1, 1)
    assert make()(x).flatten().tolist() == [1, 1, 1]
    assert make(zero="zero")(x).flatten().tolist() == [0, 0, 1]
    with pytest.raises(InputRefused, match=r"zero='two'.*'one', 'zero'"):
        make(zero="two")


def test_rsign_shifts_each_channel(reference: Any) -> None:
    module = nn.RSign(3).double()
    with torch.no_grad():
        module.bias.copy_(torch.tensor([0.3, -0.6, 0.0]).reshape(1, 3, 1, 1))
    x = (torch.randn(4, 3, 5, 2, dtype=torch.float64) * 0.7).requires_grad_()
    g = torch.randn(4, 3, 5, 2, dtype=torch.float64)
    y = module(x)
    y.backward(g)

    z = x.detach().numpy() + np.array([0.3, -0.6, 0.0]).astype(np.float32).astype(float).reshape(1, 3, 1, 1)
    dx = g.numpy() * reference.bireal_slope(z)
    assert x.grad is not None and module.bias.grad is not None
    np.testing.assert_array_equal(y.detach().numpy(), np.where(z >= 0, 1, -1))
    np.testing.assert_allclose(x.grad.numpy(), dx, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(module.bias.grad.numpy().ravel(), dx.sum(axis=(0, 2, 3)), rtol=1e-12, atol=1e-14)


def test_rprelu_value_and_every_gradient() -> None:
    module = nn.RPReLU(3).double()
    b, slope, d = np.array([0.5, -0.25, 0.0]), np.array([0.25, -0.5, 2.0]), np.array([-1.0, 0.0, 0.5])
    with torch.no_grad():
        module.shift_in.copy_(torch.tensor(b).reshape(1, 3, 1, 1))
        module.prelu.weight.copy_(torch.tensor(slope))
        module.shift_out.copy_(torch.tensor(d).reshape(1, 3, 1, 1))
    x = torch.randn(2, 3, 4, 3, dtype=torch.float64, requires_grad=True)
    g = torch.randn(2, 3, 4, 3, dtype=torch.float64)
    y = module(x)
    y.backward(g)

    b, slope, d = (values.reshape(1, 3, 1, 1) for values in (b, slope, d))
    z = x.detach().numpy() + b
    h = np.where(z > 0, 1, slope)
    tolerance = {"rtol": 1e-12, "atol": 1e-13}
    np.testing.assert_allclose(y.detach().numpy(), np.maximum(z, 0) + slope * np.minimum(z, 0) + d, **tolerance)
    gradients = {
        x: g.numpy() * h,
        module.shift_in: (g.numpy() * h).sum(axis=(0, 2, 3)),
        module.prelu.weight: (g.numpy() * np.minimum(z, 0)).sum(axis=(0, 2, 3)),
        module.shift_out: g.numpy().sum(axis=(0, 2, 3)),
    }
    for tensor, expected in gradients.items():
        assert tensor.grad is not None
        np.testing.assert_allclose(tensor.grad.numpy().reshape(expected.shape), expected, **tolerance)


def test_initial_rprelu_is_a_prelu() -> None:
    x = torch.tensor([-4.0, 4.0]).reshape(1, 2, 1, 1)
    assert nn.RPReLU(2)(x).flatten().tolist() == [-1, 4]


@pytest.mark.parametrize("cls", [nn.RSign, nn.RPReLU])
def test_a_wrong_channel_count_is_not_broadcast(cls: type[torch_nn.Module]) -> None:
    with pytest.raises(InputRefused, match=rf"{cls.__name__}: .*\[2, 1, 3, 3\].*wanted: 4 channels"):
        cls(4)(torch.zeros(2, 1, 3, 3))


@pytest.mark.parametrize("clip", [0.0, -1.0, math.nan])
def test_ste_sign_refuses_a_clip_that_stops_everything(clip: float) -> None:
    with pytest.raises(InputRefused, match=r"SteSign: clip=.*greater than 0"):
        nn.SteSign(clip)


def test_an_unknown_straight_through_method_is_named() -> None:
    with pytest.raises(InputRefused, match=r"StraightThroughBinaryActivation: method=1.*one of 0, -1"):
        nn.StraightThroughBinaryActivation(1)
