"""The config's modes, each against its equation in numpy float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bnn_deploy.errors import InputRefused
from bnn_deploy.nn import Binarize, BinarizeConfig

# One channel within ±1, one that clamps, one that is all zeros.
WEIGHT = np.array([[0.25, -0.5, 0.0, 0.75], [1.25, -3.0, 0.5, -1.0], [0.0, -0.0, 0.0, 0.0]])
SIGN = np.array([[1, -1, 1, 1], [1, -1, 1, -1], [1, 1, 1, 1]])
G = np.arange(1.0, 13.0).reshape(3, 4)


def weight_and_gradient(config: BinarizeConfig, values: np.ndarray = WEIGHT) -> tuple[np.ndarray, np.ndarray]:
    w = torch.tensor(values, requires_grad=True)
    y = Binarize(config).weight(w)
    y.backward(torch.tensor(G))
    assert w.grad is not None
    return y.detach().numpy(), w.grad.numpy()


def test_scale_minus_one_keeps_float_weights_and_does_not_clamp() -> None:
    y, gradient = weight_and_gradient(BinarizeConfig(bi_w_scale=-1))
    np.testing.assert_array_equal(y, WEIGHT)
    np.testing.assert_array_equal(gradient, G)


@pytest.mark.parametrize("threshold", [0.6, 1.3, math.inf])
def test_scale_zero_is_binary_connect(threshold: float) -> None:
    y, gradient = weight_and_gradient(BinarizeConfig(bi_w_scale=0, weight_threshold=threshold))
    np.testing.assert_array_equal(y, SIGN)
    np.testing.assert_array_equal(gradient, np.where(np.abs(WEIGHT) <= threshold, G, 0))


@pytest.mark.parametrize("threshold", [0.6, 1.3, 2.0])
def test_scale_one_has_one_scale_and_a_band_that_follows_it(threshold: float) -> None:
    y, gradient = weight_and_gradient(BinarizeConfig(bi_w_scale=1, weight_threshold=threshold))
    scale = (0.25 + 0.5 + 0.75 + 1 + 1 + 0.5 + 1) / 12  # 1.25 and -3 count as 1
    np.testing.assert_allclose(y, scale * SIGN, rtol=1e-15, atol=0)
    np.testing.assert_array_equal(gradient, np.where(np.abs(WEIGHT) <= threshold * scale, G, 0))


def test_scale_one_of_a_layer_of_zeros_uses_the_threshold_alone() -> None:
    y, gradient = weight_and_gradient(BinarizeConfig(bi_w_scale=1), np.zeros((3, 4)))
    np.testing.assert_array_equal(y, np.zeros((3, 4)))
    np.testing.assert_array_equal(gradient, G)


CHANNEL_SCALE = np.array([[1.5 / 4], [3.5 / 4], [0.0]])


def test_scale_two_is_xnor_net() -> None:
    y, gradient = weight_and_gradient(BinarizeConfig(bi_w_scale=2))
    np.testing.assert_allclose(y, CHANNEL_SCALE * SIGN, rtol=1e-15, atol=0)
    np.testing.assert_allclose(gradient, G * (CHANNEL_SCALE * (np.abs(WEIGHT) <= 1) + 1 / 4), rtol=1e-15, atol=0)


def test_scale_three_is_bireal_net() -> None:
    y, gradient = weight_and_gradient(BinarizeConfig(bi_w_scale=3))
    np.testing.assert_allclose(y, CHANNEL_SCALE * SIGN, rtol=1e-15, atol=0)
    np.testing.assert_array_equal(gradient, np.where(np.abs(WEIGHT) <= 1, G, 0))


@settings(deadline=None, max_examples=50)
@given(
    values=st.lists(st.one_of(st.floats(-2, 2), st.sampled_from([0.0, -0.0, math.inf, -1e20])), min_size=1),
    method=st.sampled_from([-1, 0, 1]),
    threshold=st.sampled_from([0.5, 1.3]),
)
def test_activation_methods(values: list[float], method: int, threshold: float) -> None:
    x = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    y = Binarize(BinarizeConfig(bi_act_method=method, act_threshold=threshold)).activation(x)
    y.sum().backward()
    v = np.array(values)
    within = np.abs(v) <= threshold
    slope = np.where(np.abs(v) < 1, 2 - 2 * np.minimum(np.abs(v), 1), 0)
    expected = {-1: np.ones_like(v), 0: within, 1: slope * within}[method]
    assert x.grad is not None
    np.testing.assert_array_equal(y.detach().numpy(), v if method == -1 else np.where(v >= 0, 1, -1))
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-14, atol=0)


def test_forward_does_both() -> None:
    x, w = torch.tensor([[0.5, -2.0]]), torch.tensor([[0.5, -0.25]])
    x_b, w_b = Binarize()(x, w)
    assert x_b.tolist() == [[1, -1]]
    assert w_b.tolist() == [[0.375, -0.375]]


def test_zero_applies_to_activations_and_weights() -> None:
    x_b, w_b = Binarize(BinarizeConfig(zero="zero"))(torch.tensor([0.0, 3.0]), torch.tensor([[0.0, -1.0]]))
    assert x_b.tolist() == [0, 1]
    assert w_b.tolist() == [[0, -0.5]]


@pytest.mark.parametrize("mode", [-1, 0, 1, 2, 3])
def test_the_parameter_is_never_written(mode: int) -> None:
    w = torch.nn.Parameter(torch.tensor(WEIGHT))
    Binarize(BinarizeConfig(bi_w_scale=mode))(torch.zeros(1), w)[1].sum().backward()
    assert w._version == 0
    np.testing.assert_array_equal(w.detach().numpy(), WEIGHT)


@pytest.mark.parametrize(
    ("option", "value", "choices"),
    [("bi_act_method", 2, "-1, 0, 1"), ("bi_w_scale", 4, "-1, 0, 1, 2, 3"), ("zero", "two", "'one', 'zero'")],
)
def test_an_unknown_mode_is_named_with_the_choices(option: str, value: object, choices: str) -> None:
    with pytest.raises(InputRefused, match=f"BinarizeConfig: {option}={value!r}; wanted: one of {choices}"):
        BinarizeConfig(**{option: value})


@pytest.mark.parametrize("option", ["act_threshold", "weight_threshold"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_a_threshold_must_leave_something(option: str, value: float) -> None:
    with pytest.raises(InputRefused, match=f"BinarizeConfig: {option}=.*greater than 0"):
        BinarizeConfig(**{option: value})


def test_weight_spec() -> None:
    assert BinarizeConfig(bi_w_scale=-1).weight_spec() is None
    spec = BinarizeConfig(bi_w_scale=1, weight_threshold=0.7, zero="zero").weight_spec()
    assert spec is not None
    assert (spec.scale, spec.gradient, spec.threshold, spec.clamp, spec.zero) == (
        "tensor", "straight_through", 0.7, True, "zero",
    )  # fmt: skip
