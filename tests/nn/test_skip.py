from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bnn_deploy.errors import InputRefused
from bnn_deploy.nn import ResNetDownSample, SkipConnectV2


def both(module: torch.nn.Module, x: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    """Compares the values, and the gradients of x under one random g."""
    y = module(x)
    g = torch.randn_like(y)
    torch.testing.assert_close(y, expected, rtol=0, atol=tolerance)
    ours, theirs = (torch.autograd.grad(out, x, g, retain_graph=True)[0] for out in (y, expected))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance)


@pytest.mark.parametrize("conv_ds", [False, True])
def test_stride_one_is_the_identity(conv_ds: bool) -> None:
    skip, x = SkipConnectV2(3, 3, 1, conv_ds=conv_ds), torch.randn(2, 3, 5, 4)
    assert torch.equal(skip(x), x)
    assert not list(skip.parameters())


@pytest.mark.parametrize("size", [(4, 6), (5, 6), (7, 3), (2, 2)])
@pytest.mark.parametrize("doubled", [False, True])
def test_stride_two_pools_and_doubles(reference: Any, size: tuple[int, int], doubled: bool) -> None:
    x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    pooled = reference.pool(x)
    skip = SkipConnectV2(3, 6 if doubled else 3, (2, 2) if doubled else 2)
    both(skip, x, torch.cat([pooled, pooled], 1) if doubled else pooled, 1e-14)
    assert skip(x).shape[2:] == (size[0] // 2, size[1] // 2)
    assert not list(skip.parameters())


@pytest.mark.parametrize("channels", [1, 3, 4, 6])
def test_conv_ds_reaches_any_width_with_a_binary_convolution(reference: Any, channels: int) -> None:
    skip = SkipConnectV2(3, channels, 2, conv_ds=True).double()
    assert skip.conv is not None
    x = torch.randn(2, 3, 7, 8, dtype=torch.float64, requires_grad=True)
    both(skip, x, reference.conv(reference.pool(x), skip.conv.weight, padding=1), 1e-13)
    assert skip.conv.weight.shape == (channels, 3, 3, 3)


@pytest.mark.parametrize(
    ("channels", "stride", "conv_ds"), [(4, 1, False), (6, 1, True), (4, 2, False), (3, 3, False), (3, (2, 1), True)]
)
def test_other_cases_list_what_is_supported(channels: int, stride: int, conv_ds: bool) -> None:
    with pytest.raises(InputRefused) as refusal:
        SkipConnectV2(3, channels, stride, conv_ds=conv_ds)
    message = str(refusal.value)
    assert f"SkipConnectV2: in_channels=3, out_channels={channels}, stride={stride}, conv_ds={conv_ds}" in message
    for case in ("identity", "out_channels = in_channels (average pool)", "2 * in_channels", "conv_ds=True"):
        assert case in message


def test_a_wrong_width_is_refused() -> None:
    with pytest.raises(InputRefused, match=r"SkipConnectV2: .*wanted: 3 channels"):
        SkipConnectV2(3, 3, 2)(torch.zeros(1, 6, 4, 4))


@settings(deadline=None, max_examples=25)
@given(channels=st.integers(1, 5), height=st.integers(1, 7), width=st.integers(1, 7), stride=st.integers(1, 3))
def test_resnet_down_sample(channels: int, height: int, width: int, stride: int) -> None:
    x = torch.randn(2, channels, height, width, dtype=torch.float64, requires_grad=True)
    y = ResNetDownSample(stride)(x)
    rows, columns = -(-height // stride), -(-width // stride)
    assert y.shape == (2, 2 * channels, rows, columns)
    g = torch.randn_like(y)
    y.backward(g)
    gradient = torch.zeros_like(x)
    for i in range(rows):
        for j in range(columns):
            assert torch.equal(y[:, :channels, i, j], x[:, :, stride * i, stride * j])
            gradient[:, :, stride * i, stride * j] = g[:, :channels, i, j]
    assert torch.count_nonzero(y[:, channels:]) == 0
    assert x.grad is not None
    assert torch.equal(x.grad, gradient)


def test_down_sampled_zero_channels_stay_zero_beside_infinities() -> None:
    assert ResNetDownSample()(torch.full((1, 1, 2, 2), torch.inf)).flatten().tolist() == [torch.inf, 0]


@pytest.mark.parametrize("stride", [0, -2, 1.5])
def test_resnet_down_sample_refuses_a_stride(stride: int) -> None:
    with pytest.raises(InputRefused, match="ResNetDownSample: stride="):
        ResNetDownSample(stride)
