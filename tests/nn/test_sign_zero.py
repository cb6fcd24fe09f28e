from __future__ import annotations

import pytest
import torch

from bnn_deploy import nn
from bnn_deploy.errors import InputRefused


def model() -> torch.nn.Sequential:
    return torch.nn.Sequential(
        torch.nn.ReLU(), nn.RSign(2), nn.BinaryConv2d(2, 2, 1, config=nn.BinarizeConfig(bi_w_scale=0))
    )


def test_changes_activations_and_layers_wherever_they_are() -> None:
    net, x = model(), torch.zeros(1, 2, 1, 1)
    torch.nn.init.ones_(net[2].weight)
    assert net(x).flatten().tolist() == [2, 2]
    assert nn.set_sign_zero(net, "zero") == 2
    assert net(x).flatten().tolist() == [0, 0]
    assert nn.set_sign_zero(net, "zero") == 0
    assert nn.set_sign_zero(net, "one") == 2
    assert net(x).flatten().tolist() == [2, 2]


def test_the_rest_of_the_config_stays_and_is_not_shared() -> None:
    config = nn.BinarizeConfig(bi_act_method=0, bi_w_scale=1, act_threshold=0.5)
    layer, other = nn.BinaryLinear(2, 2, config=config), nn.BinaryLinear(2, 2, config=config)
    nn.set_sign_zero(layer, "zero")
    assert layer.config == nn.BinarizeConfig(bi_act_method=0, bi_w_scale=1, act_threshold=0.5, zero="zero")
    assert other.config is config


def test_another_zero_is_refused() -> None:
    with pytest.raises(InputRefused, match=r"zero='half'.*'one', 'zero'"):
        nn.set_sign_zero(model(), "half")


def test_a_layer_that_two_places_share_is_counted_once() -> None:
    layer = nn.BinaryLinear(2, 2)
    assert nn.set_sign_zero(torch.nn.ModuleList([layer, layer]), "zero") == 1


def test_weights_and_activations_change_together() -> None:
    """A weight that is exactly 0 is a third level with `zero="zero"`, and +1 with `zero="one"`."""
    layer = nn.BinaryLinear(1, 2, config=nn.BinarizeConfig(bi_w_scale=0, zero="zero"))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.0], [-3.0]]))
    x = torch.tensor([[1.0], [0.0], [-0.0], [-1e-30], [float("nan")]])
    assert layer(x).tolist() == [[0, -1], [0, 0], [0, 0], [0, 1], [0, 1]]
    assert nn.set_sign_zero(layer, "one") == 1
    assert layer(x).tolist() == [[1, -1], [1, -1], [1, -1], [-1, 1], [-1, 1]]


def test_nothing_to_change() -> None:
    assert nn.set_sign_zero(torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Conv2d(1, 1, 1)), "zero") == 0
