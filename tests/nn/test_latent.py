from __future__ import annotations

import torch
from torch import Tensor

from bnn_deploy.nn import BinarizeConfig, BinaryConv2d, BinaryLinear, clamp_latent_weights_


class Doubled(BinaryLinear):
    """Its weight is a view into a larger parameter."""

    def __init__(self) -> None:
        super().__init__(2, 2)
        del self.weight
        self.store = torch.nn.Parameter(torch.full((4, 2), 3.0))

    def latent_weight(self) -> Tensor:
        return self.store[:2]


def test_clamps_binary_weights_only() -> None:
    model = torch.nn.Sequential(
        BinaryConv2d(1, 1, 1, bias=True),
        BinaryLinear(1, 1, config=BinarizeConfig(bi_w_scale=-1)),
        torch.nn.Linear(1, 1),
        torch.nn.Sequential(BinaryLinear(1, 2)),
    )
    for parameter in model.parameters():
        torch.nn.init.constant_(parameter, -1.5)
    with torch.no_grad():
        model[3][0].weight.copy_(torch.tensor([[0.5], [7.0]]))
    clamp_latent_weights_(model)
    assert model[0].weight.item() == -1
    assert model[0].bias.item() == -1.5
    assert model[1].weight.item() == model[2].weight.item() == -1.5
    assert model[3][0].weight.flatten().tolist() == [0.5, 1]


def test_writes_through_a_subclasss_view() -> None:
    layer = Doubled()
    clamp_latent_weights_(layer)
    assert layer.store.tolist() == [[1, 1], [1, 1], [3, 3], [3, 3]]


def test_the_parameter_stays_a_leaf_that_learns() -> None:
    layer = BinaryLinear(3, 2)
    optimizer = torch.optim.SGD(layer.parameters(), lr=100.0)
    for _ in range(2):
        optimizer.zero_grad()
        layer(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        clamp_latent_weights_(layer)
    assert layer.weight.is_leaf and layer.weight.requires_grad
    assert layer.weight.flatten().tolist() == [-1] * 6
