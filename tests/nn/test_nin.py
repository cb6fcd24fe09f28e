from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bnn_deploy.errors import InputRefused
from bnn_deploy.nn import NIN, BinarizeConfig, BinaryConv2d

# (kind, in, out, kernel) of every layer that has a size, in order.
LAYERS = [
    ("float", 3, 192, 5),
    ("binary", 192, 160, 1),
    ("binary", 160, 96, 1),
    ("MaxPool2d", 3, 2, 1),
    ("binary", 96, 192, 5),
    ("binary", 192, 192, 1),
    ("binary", 192, 192, 1),
    ("AvgPool2d", 3, 2, 1),
    ("binary", 192, 192, 3),
    ("binary", 192, 192, 1),
    ("float", 192, 10, 1),
]


def layers(model: NIN) -> list[tuple[str, int, int, int]]:
    found = []
    for module in model.modules():
        if isinstance(module, BinaryConv2d):
            assert module.geometry.padding == (module.kernel_size[0] // 2,) * 2
            found.append(("binary", module.in_channels, module.out_channels, module.kernel_size[0]))
        elif isinstance(module, torch.nn.Conv2d):
            found.append(("float", module.in_channels, module.out_channels, module.kernel_size[0]))
        elif isinstance(module, torch.nn.MaxPool2d | torch.nn.AvgPool2d):
            found.append((type(module).__name__, module.kernel_size, module.stride, module.padding))
    return found


def test_the_layers_are_those_of_the_paper() -> None:
    assert layers(NIN()) == LAYERS


def test_width_multiplies_the_inner_widths_only() -> None:
    assert layers(NIN(7, width=0.25, in_channels=1))[0] == ("float", 1, 48, 5)
    assert layers(NIN(7, width=0.25))[1:3] == [("binary", 48, 40, 1), ("binary", 40, 24, 1)]
    assert layers(NIN(7, width=0.25))[-1] == ("float", 48, 7, 1)
    assert layers(NIN(width=1e-6))[-1] == ("float", 1, 10, 1)


@pytest.mark.parametrize("batch", [0, 1, 2])
@pytest.mark.parametrize("size", [(32, 32), (28, 28), (9, 14), (1, 1)])
def test_logits_keep_the_batch_axis(batch: int, size: tuple[int, int]) -> None:
    model = NIN(5, width=0.05).eval()
    assert model(torch.randn(batch, 3, *size)).shape == (batch, 5)


def test_values_and_gradients(reference: Any) -> None:
    model = NIN(4, width=0.03).double()
    reference.randomize_(model)
    x = torch.randn(3, 3, 12, 10, dtype=torch.float64, requires_grad=True)
    y = model(x)
    f = model.features

    def binary(z: Tensor, index: int, padding: int) -> Tensor:
        unit = f[index]
        normed = reference.batch_norm(z, unit.bn.weight, unit.bn.bias)
        return reference.conv(normed, unit.conv.weight, 1, padding).relu()

    z = reference.batch_norm(F.conv2d(x, f[0].weight, padding=2), f[1].weight, f[1].bias).relu()
    z = F.max_pool2d(binary(binary(z, 3, 0), 4, 0), 3, 2, 1)
    z = F.avg_pool2d(binary(binary(binary(z, 6, 2), 7, 0), 8, 0), 3, 2, 1)
    z = binary(binary(z, 10, 1), 11, 0)
    z = F.conv2d(reference.batch_norm(z, f[12].weight, f[12].bias), f[13].weight, f[13].bias)
    expected = z.sum(dim=(2, 3)) / (z.shape[2] * z.shape[3])

    torch.testing.assert_close(y, expected, rtol=0, atol=1e-10)
    g = torch.randn_like(y)
    inputs = (x, *model.parameters())
    for ours, theirs in zip(torch.autograd.grad(y, inputs, g), torch.autograd.grad(expected, inputs, g), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-9)


def test_the_config_reaches_every_binary_layer() -> None:
    config = BinarizeConfig(bi_w_scale=2)
    binary = [module for module in NIN(width=0.05, config=config).modules() if isinstance(module, BinaryConv2d)]
    assert len(binary) == 7
    assert all(module.config is config for module in binary)


@pytest.mark.parametrize("width", [0, -1.0, float("inf"), float("nan")])
def test_a_width_must_be_positive(width: float) -> None:
    with pytest.raises(InputRefused, match="NIN: width="):
        NIN(width=width)


def test_a_wrong_image_is_refused() -> None:
    with pytest.raises(InputRefused, match=r"NIN: .*\[1, 1, 32, 32\].*wanted: 3 channels"):
        NIN(width=0.05)(torch.zeros(1, 1, 32, 32))
    with pytest.raises(InputRefused, match=r"NIN: .*batch axis"):
        NIN(width=0.05)(torch.zeros(3, 32, 32))
