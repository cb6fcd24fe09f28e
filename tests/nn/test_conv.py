"""BinaryConv2d, against a float64 convolution of binarised operands."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bnn_deploy.errors import InputRefused
from bnn_deploy.nn import BinarizeConfig, BinaryConv2d, name_layers

pairs = st.one_of(st.integers(1, 3), st.tuples(st.integers(1, 3), st.integers(1, 3)))


def sign(x: Tensor) -> Tensor:
    return (x >= 0).double() * 2 - 1


def pad(x: Tensor, padding: int | tuple[int, int], value: float) -> Tensor:
    vertical, horizontal = padding if isinstance(padding, tuple) else (padding, padding)
    n, c, h, w = x.shape
    padded = torch.full((n, c, h + 2 * vertical, w + 2 * horizontal), value, dtype=x.dtype)
    padded[:, :, vertical : vertical + h, horizontal : horizontal + w] = x
    return padded


@settings(deadline=None, max_examples=40)
@given(
    kernel=pairs,
    stride=pairs,
    dilation=pairs,
    padding=st.one_of(st.integers(0, 2), st.tuples(st.integers(0, 2), st.integers(0, 2))),
    groups=st.sampled_from([1, 3]),
    bias=st.booleans(),
    padding_value=st.sampled_from([0, -1, 1]),
    edge=st.sampled_from([0.0, -0.0, math.inf, -math.inf, 1e20, math.nan]),
)
def test_values_and_gradients(
    kernel: object,
    stride: object,
    dilation: object,
    padding: int | tuple[int, int],
    groups: int,
    bias: bool,
    padding_value: float,
    edge: float,
) -> None:
    torch.manual_seed(3)
    layer = BinaryConv2d(3, 6, kernel, stride, padding, dilation, groups, bias, padding_value=padding_value).double()
    with torch.no_grad():
        layer.weight.mul_(15)  # some latent weights beyond ±1
    if layer.bias is not None:
        torch.nn.init.normal_(layer.bias)
    x = torch.randn(2, 3, 8, 7, dtype=torch.float64)
    x[0, 0, 0, 0] = edge
    x.requires_grad_()
    y = layer(x)
    g = torch.randn_like(y)
    y.backward(g)

    w = layer.weight.detach()
    alpha = w.clamp(-1, 1).abs().mean(dim=(1, 2, 3), keepdim=True)
    a, w_b = sign(x.detach()).requires_grad_(), (alpha * sign(w)).requires_grad_()
    expected = F.conv2d(
        pad(a, padding, padding_value), w_b, layer.bias, layer.geometry.stride, 0, layer.geometry.dilation, groups
    )
    expected.backward(g)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
    inside = x.detach().abs() < 1
    slope = torch.where(inside, 2 - 2 * torch.where(inside, x.detach().abs(), 1.0), 0.0)
    assert a.grad is not None and w_b.grad is not None
    torch.testing.assert_close(x.grad, a.grad * slope, rtol=0, atol=1e-12)
    torch.testing.assert_close(layer.weight.grad, w_b.grad * (w.abs() <= 1), rtol=0, atol=1e-11)
    if layer.bias is not None:
        # backward of `expected` has added its own share to the same parameter.
        torch.testing.assert_close(layer.bias.grad, 2 * g.sum(dim=(0, 2, 3)), rtol=0, atol=1e-11)


def test_float32_agrees_with_float64() -> None:
    layer, x = BinaryConv2d(33, 8, 3, padding=1), torch.randn(2, 33, 6, 6)
    torch.testing.assert_close(layer(x).double(), layer.double()(x.double()), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("padding_value", [0, -1, 1])
def test_float_weights_are_a_plain_convolution(padding_value: float) -> None:
    config = BinarizeConfig(bi_act_method=-1, bi_w_scale=-1)
    layer = BinaryConv2d(3, 4, 3, 2, (2, 1), bias=True, padding_value=padding_value, config=config).double()
    with torch.no_grad():
        layer.weight.mul_(40)  # nothing is clamped
    x = torch.randn(2, 3, 5, 6, dtype=torch.float64, requires_grad=True)
    y = layer(x)
    expected = F.conv2d(pad(x, (2, 1), padding_value), layer.weight, layer.bias, 2)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
    inputs = (x, layer.weight, layer.bias)
    for ours, plain in zip(
        torch.autograd.grad(y.square().sum(), inputs), torch.autograd.grad(expected.square().sum(), inputs), strict=True
    ):
        torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-12)


def test_float_activations_with_binary_weights() -> None:
    layer = BinaryConv2d(2, 3, 1, config=BinarizeConfig(bi_act_method=-1, bi_w_scale=0)).double()
    x = torch.randn(1, 2, 3, 3, dtype=torch.float64)
    torch.testing.assert_close(layer(x), F.conv2d(x, sign(layer.weight)), rtol=0, atol=1e-13)


def test_the_default_padding_adds_nothing() -> None:
    layer = BinaryConv2d(1, 1, 3, padding=1, config=BinarizeConfig(bi_w_scale=0))
    torch.nn.init.ones_(layer.weight)
    assert layer(torch.ones(1, 1, 3, 3)).flatten().tolist() == [4, 6, 4, 6, 9, 6, 4, 6, 4]


def test_initial_weight_is_normal_with_deviation_a_twentieth() -> None:
    weight = BinaryConv2d(64, 64, 3, bias=True).weight.detach()
    assert abs(weight.mean().item()) < 0.002
    assert abs(weight.std().item() - 0.05) < 0.002
    assert abs((weight.abs() < 0.05).double().mean().item() - 0.6827) < 0.01  # normal, not uniform


def test_initial_bias_is_zero_and_none_by_default() -> None:
    assert BinaryConv2d(2, 3, 1).bias is None
    bias = BinaryConv2d(2, 3, 1, bias=True).bias
    assert bias is not None
    assert bias.tolist() == [0, 0, 0]
    assert set(BinaryConv2d(2, 3, 1).state_dict()) == {"weight"}


@pytest.mark.parametrize("mode", [-1, 0, 1, 2, 3])
def test_forward_and_backward_leave_the_parameters_alone(mode: int) -> None:
    layer = BinaryConv2d(2, 3, 3, bias=True, config=BinarizeConfig(bi_w_scale=mode))
    with torch.no_grad():
        layer.weight.mul_(40)
    before = {name: (value.clone(), value._version) for name, value in layer.named_parameters()}
    layer(torch.randn(1, 2, 4, 4)).sum().backward()
    layer.eval()(torch.randn(1, 2, 4, 4))
    for name, value in layer.named_parameters():
        assert value._version == before[name][1]
        assert torch.equal(value, before[name][0])


@pytest.mark.parametrize(("inputs", "outputs", "found"), [(4, 6, "in_channels=4"), (6, 4, "out_channels=4")])
def test_groups_must_divide_both_widths(inputs: int, outputs: int, found: str) -> None:
    with pytest.raises(InputRefused, match=f"BinaryConv2d: {found} with groups=3; wanted: .* a multiple of groups"):
        BinaryConv2d(inputs, outputs, 3, groups=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"padding": "same"}, "padding='same'.*in pixels"),
        ({"padding": -1}, "padding=-1"),
        ({"stride": 0}, "stride=0"),
        ({"dilation": (1, 0)}, r"dilation=\(1, 0\)"),
        ({"groups": 0}, "groups=0"),
        ({"padding_value": 0.5}, "padding_value=0.5.*one of 0, -1, 1"),
        ({"kernel_size": (3, 3, 3)}, r"kernel_size=\(3, 3, 3\)"),
        ({"in_channels": 0}, "in_channels=0"),
        ({"out_channels": 2.0}, "out_channels=2.0"),
    ],
)
def test_arguments_that_make_no_layer(options: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"in_channels": 4, "out_channels": 4, "kernel_size": 3} | options
    with pytest.raises(InputRefused, match=f"BinaryConv2d: {message}"):
        BinaryConv2d(**arguments)


def test_a_wrong_input_is_refused_by_the_layers_name() -> None:
    model = torch.nn.Sequential(torch.nn.ReLU(), BinaryConv2d(4, 4, 3))
    with pytest.raises(InputRefused, match=r"BinaryConv2d: .*which has 5 channels"):
        model(torch.zeros(1, 5, 8, 8))
    name_layers(model)
    with pytest.raises(InputRefused, match=r"1: an input of shape \[1, 5, 8, 8\], which has 5 channels; wanted: 4"):
        model(torch.zeros(1, 5, 8, 8))


class FlatWeightConv2d(BinaryConv2d):
    """The layer as some published checkpoints have it: the weight under another name, in one column."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size)
        self.shape = self.weight.shape
        self.weights = torch.nn.Parameter(self.weight.detach().reshape(-1, 1))
        del self.weight

    def latent_weight(self) -> Tensor:
        return self.weights.view(self.shape)


def test_a_subclass_may_keep_its_weight_elsewhere() -> None:
    flat, plain = FlatWeightConv2d(2, 3, 3), BinaryConv2d(2, 3, 3)
    plain.load_state_dict({"weight": flat.weights.detach().reshape(3, 2, 3, 3)})
    assert set(flat.state_dict()) == {"weights"}
    x = torch.randn(1, 2, 5, 5)
    assert torch.equal(flat(x), plain(x))
    flat(x).sum().backward()
    plain(x).sum().backward()
    assert flat.weights.grad is not None and plain.weight.grad is not None
    assert torch.equal(flat.weights.grad.reshape(3, 2, 3, 3), plain.weight.grad)


def test_repr_tells_the_geometry() -> None:
    text = repr(BinaryConv2d(4, 6, (3, 1), 2, padding_value=-1, config=BinarizeConfig(bi_w_scale=2)))
    for part in ("4, 6", "kernel_size=(3, 1)", "stride=(2, 2)", "padding_value=-1", "bi_w_scale=2"):
        assert part in text
