"""VGG-Small: the layers, their sizes, and the whole forward from its parts."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnn_deploy import nn as bnn
from bnn_deploy.errors import InputRefused
from bnn_deploy.models.vgg import VggSmall, vgg_small


def test_full_width_is_128_128_256_256_512_512() -> None:
    with torch.device("meta"):
        model = vgg_small(width=1)
    assert model.conv1.weight.shape == (128, 3, 3, 3)
    shapes = [tuple(p.weight.shape) for p in model.modules() if isinstance(p, bnn.BinaryConv2d)]
    assert shapes == [(128, 128, 3, 3), (256, 128, 3, 3), (256, 256, 3, 3), (512, 256, 3, 3), (512, 512, 3, 3)]
    assert model.fc.weight.shape == (10, 512 * 4 * 4)


def test_default_is_a_quarter_as_wide() -> None:
    with torch.device("meta"):
        model = vgg_small()
    assert model.conv1.out_channels == 32 and model.fc.in_features == 128 * 4 * 4


def norm(x: Tensor, layer: nn.BatchNorm2d) -> Tensor:
    scale = layer.weight / (layer.running_var + layer.eps).sqrt()
    return (x - layer.running_mean[:, None, None]) * scale[:, None, None] + layer.bias[:, None, None]


def test_forward_against_float64() -> None:
    torch.manual_seed(0)
    model = VggSmall(4, width=0.05).train()
    model(torch.randn(8, 3, 32, 32))  # Running statistics other than 0 and 1.
    model = model.eval().double()
    x = torch.randn(2, 3, 32, 32).double()
    y = F.conv2d(x, model.conv1.weight, padding=1)
    for block, stride in zip(model.blocks, (2, 1, 2, 1, 2), strict=True):
        weight = block.unit.conv.weight.clamp(-1, 1)
        alpha = weight.abs().mean(dim=(1, 2, 3))[:, None, None]
        signs = torch.where(norm(y, block.unit.bn) >= 0, 1.0, -1.0).double()
        y = F.relu(alpha * F.conv2d(signs, torch.where(weight >= 0, 1.0, -1.0).double(), padding=1))
        y = F.avg_pool2d(y, 2) if stride == 2 else y
    expected = norm(y, model.bn).flatten(1) @ model.fc.weight.T + model.fc.bias
    torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-9)


def test_gradients_reach_every_parameter() -> None:
    torch.manual_seed(0)
    model = VggSmall(width=0.05)
    model(torch.randn(4, 3, 32, 32)).square().sum().backward()
    assert all(torch.isfinite(p.grad).all() and p.grad.any() for p in model.parameters())


def test_an_impossible_width_is_refused() -> None:
    with pytest.raises(InputRefused, match="width=-1"):
        vgg_small(width=-1)
