from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from bnn_deploy.errors import InputRefused
from bnn_deploy.nn import BinarizeConfig, BinaryLinear, name_layers


@pytest.mark.parametrize("shape", [(7,), (5, 7), (2, 3, 7), (0, 7)])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("mode", [0, 2, 3])
def test_values_and_gradients(reference: Any, shape: tuple[int, ...], bias: bool, mode: int) -> None:
    layer = BinaryLinear(7, 4, bias, config=BinarizeConfig(bi_w_scale=mode)).double()
    with torch.no_grad():
        layer.weight.mul_(15)
    if layer.bias is not None:
        torch.nn.init.normal_(layer.bias)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    y = layer(x)
    g = torch.randn_like(y)
    y.backward(g)

    v, w = x.detach().numpy(), layer.weight.detach().numpy()
    alpha = np.ones((4, 1)) if mode == 0 else np.minimum(np.abs(w), 1).mean(axis=1, keepdims=True)
    a, w_b = np.where(v >= 0, 1.0, -1.0), alpha * np.where(w >= 0, 1.0, -1.0)
    offset = 0 if layer.bias is None else layer.bias.detach().numpy()
    da = g.numpy() @ w_b
    dw = g.numpy().reshape(-1, 4).T @ a.reshape(-1, 7)
    factor = {0: np.abs(w) <= 1.3, 2: alpha * (np.abs(w) <= 1) + 1 / 7, 3: np.abs(w) <= 1}[mode]
    assert x.grad is not None and layer.weight.grad is not None
    np.testing.assert_allclose(y.detach().numpy(), a @ w_b.T + offset, rtol=0, atol=1e-13)
    np.testing.assert_allclose(x.grad.numpy(), da * reference.bireal_slope(v), rtol=0, atol=1e-12)
    np.testing.assert_allclose(layer.weight.grad.numpy(), dw * factor, rtol=0, atol=1e-12)
    if layer.bias is not None:
        assert layer.bias.grad is not None
        np.testing.assert_allclose(layer.bias.grad.numpy(), g.numpy().reshape(-1, 4).sum(axis=0), rtol=0, atol=1e-13)


def test_float_weights_and_activations() -> None:
    layer = BinaryLinear(3, 2, True, config=BinarizeConfig(bi_act_method=-1, bi_w_scale=-1)).double()
    with torch.no_grad():
        layer.weight.mul_(40)
    x = torch.randn(4, 3, dtype=torch.float64)
    torch.testing.assert_close(layer(x), x @ layer.weight.T + layer.bias, rtol=0, atol=1e-13)


def test_initial_weight_is_normal_with_deviation_a_twentieth() -> None:
    layer = BinaryLinear(256, 128)
    assert layer.bias is None
    assert abs(layer.weight.mean().item()) < 0.002
    assert abs(layer.weight.std().item() - 0.05) < 0.002


def test_wrong_features_are_refused_by_the_layers_name() -> None:
    model = torch.nn.Sequential(torch.nn.Sequential(BinaryLinear(4, 2)))
    name_layers(model)
    with pytest.raises(InputRefused, match=r"0\.0: an input of shape \[1, 2, 2\]; wanted: 4 features"):
        model(torch.zeros(1, 2, 2))


@pytest.mark.parametrize(("inputs", "outputs", "name"), [(0, 1, "in_features"), (1, 1.5, "out_features")])
def test_sizes_must_be_whole(inputs: int, outputs: int, name: str) -> None:
    with pytest.raises(InputRefused, match=f"BinaryLinear: {name}="):
        BinaryLinear(inputs, outputs)


def test_repr_tells_the_sizes() -> None:
    assert repr(BinaryLinear(4, 2)).startswith("BinaryLinear(4, 2, bias=False, BinarizeConfig(")
