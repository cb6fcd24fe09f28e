from __future__ import annotations

from typing import Any

import pytest
import torch

from bnn_deploy.errors import InputRefused
from bnn_deploy.nn import BIREAL
from bnn_deploy.nn.factorized import FactorizedBinaryConv2d, pad_to_even


def make(
    out_channels: int = 6, kernel: int | tuple[int, int] = 3, padding: int | tuple[int, int] = 1, dilation: int = 1
) -> FactorizedBinaryConv2d:
    return FactorizedBinaryConv2d(4, out_channels, kernel, padding, dilation, 1, config=BIREAL)


@pytest.mark.parametrize(("kernel", "padding"), [(1, 0), (3, 1), (5, 2), (3, 0)])
def test_second_half_reads_one_pixel_further(reference: Any, kernel: int, padding: int) -> None:
    layer = make(6, kernel, padding).double()
    x = torch.randn(2, 4, 8, 6, dtype=torch.float64, requires_grad=True)
    y = layer(x)
    halves = [
        reference.conv(x, layer.first.weight, 2, padding),
        reference.conv(x[:, :, 1:, 1:], layer.second.weight, 2, padding),
    ]
    expected = torch.cat(halves, 1)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
    g = torch.randn_like(y)
    inputs = (x, layer.first.weight, layer.second.weight)
    for ours, theirs in zip(torch.autograd.grad(y, inputs, g), torch.autograd.grad(expected, inputs, g), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_an_odd_width_has_no_halves() -> None:
    with pytest.raises(InputRefused, match=r"factorized.*out_channels=5.*even"):
        make(5)


@pytest.mark.parametrize("kernel", [2, (3, 2), (4, 1)])
def test_an_even_kernel_would_give_two_sizes(kernel: int | tuple[int, int]) -> None:
    with pytest.raises(InputRefused, match=r"kernel_size=.*differ in size.*odd kernel"):
        make(kernel=kernel)


def test_an_even_dilation_mends_an_even_kernel() -> None:
    assert make(kernel=2, dilation=2)(torch.randn(1, 4, 8, 6)).shape == (1, 6, 4, 3)


@pytest.mark.parametrize(("size", "above", "left"), [((4, 6), 0, 0), ((5, 6), 1, 0), ((4, 7), 0, 1), ((5, 7), 1, 1)])
def test_pad_to_even_pads_each_axis_for_itself(size: tuple[int, int], above: int, left: int) -> None:
    x = torch.randn(2, 3, *size)
    y = pad_to_even(x)
    assert y.shape == (2, 3, size[0] + above, size[1] + left)
    assert torch.equal(y[:, :, above:, left:], x)
    assert torch.count_nonzero(y) == torch.count_nonzero(x)
