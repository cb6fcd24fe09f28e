"""The layers that families share, against float64 formulas and the published parameter layout."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bnn_deploy.errors import InputRefused
from bnn_deploy.models.layers import HardBinaryConv2d, Shift, check_stem, scaled, stem_convolution, stem_pool


def signs(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.where(torch.randn(shape, generator=torch.Generator().manual_seed(seed)) < 0, -1.0, 1.0)


@given(
    channels=st.integers(1, 9),
    out=st.integers(1, 9),
    kernel=st.sampled_from([1, 3]),
    stride=st.sampled_from([1, 2]),
    side=st.integers(1, 9),
    seed=st.integers(0, 2**16),
)
@settings(deadline=None, max_examples=40)
def test_convolution_is_mean_magnitude_times_sign(
    channels: int, out: int, kernel: int, stride: int, side: int, seed: int
) -> None:
    layer = HardBinaryConv2d(channels, out, kernel, stride)
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(layer.weight.shape, generator=generator) * 2  # Beyond 1 too: the published scale is unclamped.
    weight.view(-1)[0] = 0.0
    with torch.no_grad():
        layer.weight.copy_(weight)
    x = signs((2, channels, side, side), seed)

    exact = weight.double()
    alpha = exact.abs().sum(dim=(1, 2, 3)) / (channels * kernel * kernel)
    levels = torch.where(exact >= 0, 1.0, -1.0).double()
    expected = F.conv2d(x.double(), levels, stride=stride, padding=kernel // 2) * alpha[None, :, None, None]
    torch.testing.assert_close(layer(x).double(), expected, rtol=1e-5, atol=1e-4)


def test_a_zero_weight_is_a_third_level_only_on_request() -> None:
    for zero, level in (("one", 1.0), ("zero", 0.0)):
        layer = HardBinaryConv2d(2, 1, 1, zero=zero)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor([0.0, 4.0]).view(1, 2, 1, 1))
        assert layer(torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)).item() == 2 * level


def test_weight_gradient_passes_within_one_and_no_further() -> None:
    layer = HardBinaryConv2d(1, 1, 1)
    for value, passes in ((0.5, 1.0), (1.0, 1.0), (-1.0, 1.0), (1.01, 0.0), (-2.0, 0.0)):
        with torch.no_grad():
            layer.weight.fill_(value)
        layer.weight.grad = None
        layer(torch.full((1, 1, 1, 1), 1.0)).sum().backward()
        assert layer.weight.grad.item() == passes


def test_flat_published_weight_is_read_in_order() -> None:
    layer = HardBinaryConv2d(3, 4, 3)
    flat = torch.arange(4 * 3 * 9, dtype=torch.float32).view(-1, 1)
    layer.load_state_dict({"weights": flat})
    assert layer.weight[1, 2, 0, 1].item() == 1 * 27 + 2 * 9 + 1
    torch.testing.assert_close(layer.weight.detach().reshape(-1, 1), flat, rtol=0, atol=0)


def test_loading_leaves_the_given_state_alone() -> None:
    layer = HardBinaryConv2d(1, 1, 1)
    state = {"weights": torch.ones(1, 1)}
    layer.load_state_dict(state)
    assert list(state) == ["weights"]


@pytest.mark.parametrize("key, shape", [("weights", (27, 1)), ("weights", (108,)), ("weight", (4, 3, 3))])
def test_a_weight_of_another_shape_is_not_forced_in(key: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(RuntimeError):
        HardBinaryConv2d(3, 4, 3).load_state_dict({key: torch.ones(shape)})


def test_own_state_round_trips() -> None:
    first, second = HardBinaryConv2d(3, 4, 3), HardBinaryConv2d(3, 4, 3)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.weight, second.weight)


def test_shift_adds_per_channel() -> None:
    shift = Shift(3)
    assert shift.bias.shape == (1, 3, 1, 1)
    with torch.no_grad():
        shift.bias.copy_(torch.tensor([1.0, -2.0, 0.5]).view(1, 3, 1, 1))
    y = shift(torch.zeros(2, 3, 4, 5))
    assert torch.equal(y[1, :, 3, 4], torch.tensor([1.0, -2.0, 0.5]))


@pytest.mark.parametrize("stem, side", [("imagenet", 56), ("small", 224)])
def test_stems(stem: str, side: int) -> None:
    with torch.device("meta"):
        y = stem_pool(stem)(stem_convolution(stem, 3, 8)(torch.empty(1, 3, 224, 224)))
    assert y.shape == (1, 8, side, side)


def test_an_unknown_stem_is_refused() -> None:
    with pytest.raises(InputRefused, match="'imagenet', 'small'"):
        check_stem("net", "cifar")


@pytest.mark.parametrize("channels, width, expected", [(64, 1, 64), (64, 0.5, 32), (3, 0.01, 1), (192, 1.5, 288)])
def test_scaled(channels: int, width: float, expected: int) -> None:
    assert scaled(channels, width, "net") == expected


@pytest.mark.parametrize("width", [0, -1, float("nan"), float("inf"), "wide"])
def test_an_impossible_width_is_refused(width: float) -> None:
    with pytest.raises(InputRefused, match="width="):
        scaled(64, width, "net")
