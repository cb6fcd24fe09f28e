"""XNOR-Net's ResNet-18: what is binary, with which gradient, and the sizes on the way."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from bnn_deploy import nn as bnn
from bnn_deploy.errors import InputRefused
from bnn_deploy.models.xnor_resnet import XnorResNet, xnor_resnet18


def binary_layers(model: nn.Module) -> list[bnn.BinaryConv2d]:
    return [part for part in model.modules() if isinstance(part, bnn.BinaryConv2d)]


def test_sixteen_binary_convolutions_and_two_float_layers() -> None:
    with torch.device("meta"):
        model = xnor_resnet18()
    layers = binary_layers(model)
    shapes = [tuple(layer.weight.shape) for layer in layers]
    expected = []
    before = 64
    for width in (64, 128, 256, 512):
        expected += [(width, before, 3, 3), *[(width, width, 3, 3)] * 3]
        before = width
    assert shapes == expected
    float_layers = [p for p in model.modules() if isinstance(p, torch.nn.Conv2d | torch.nn.Linear)]
    assert len(float_layers) == 2


def test_xnor_gradients() -> None:
    with torch.device("meta"):
        layer = binary_layers(xnor_resnet18())[0]
    assert layer.config.weight_spec().gradient == "xnor"
    assert layer.config.weight_spec().scale == "channel"
    layer = bnn.BinaryConv2d(1, 1, 1, config=layer.config)
    x = torch.tensor([-1.5, -0.9, 0.0, 1.0, 1.1]).view(5, 1, 1, 1).requires_grad_()
    layer(x).sum().backward()
    scale = layer.weight.abs().item() * (1 if layer.weight.item() >= 0 else -1)
    expected = torch.tensor([0.0, scale, scale, scale, 0.0]).view(5, 1, 1, 1)
    torch.testing.assert_close(x.grad, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("stem, side", [("imagenet", 2), ("small", 8)])
def test_sizes(stem: str, side: int) -> None:
    with torch.device("meta"):
        model = xnor_resnet18(stem=stem, width=0.25).eval()
        features = model.blocks(model.stem(torch.empty(2, 3, 64, 64)))
    assert features.shape == (2, 128, side, side)


@pytest.mark.parametrize("downsample", ["avgpool", "conv", "binary_conv"])
@pytest.mark.parametrize("width", [0.05, 0.3])
def test_any_width_and_shortcut(downsample: str, width: float) -> None:
    torch.manual_seed(0)
    model = XnorResNet(4, width=width, stem="small", downsample=downsample)
    loss = model(torch.randn(2, 3, 16, 16)).square().sum()
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("option", [{"stem": "large"}, {"width": 0}, {"downsample": "maxpool"}, {"zero": "two"}])
def test_unknown_options_are_refused(option: dict[str, Any]) -> None:
    with pytest.raises(InputRefused, match=f"{next(iter(option))}="):
        xnor_resnet18(**option)
