from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from bnn_deploy import nn
from bnn_deploy.nn.layer import BinaryLayer, name_layers


def test_names_are_dotted_paths() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1), nn.BinaryResNetBlock(2, 4, 2, downsample="binary_conv"))
    name_layers(model)
    names = {name: module.layer_name for name, module in model.named_modules() if isinstance(module, BinaryLayer)}
    assert names == {name: name for name in ("1.unit1.conv", "1.unit1.shortcut.conv", "1.unit2.conv")}


def test_a_model_that_is_one_layer_is_named_by_its_class() -> None:
    layer = nn.BinaryLinear(2, 2)
    name_layers(layer)
    assert layer.layer_name == "BinaryLinear"


def test_before_naming_the_class_stands_in() -> None:
    layer = nn.BinaryConv2d(2, 2, 1)
    assert layer.layer_name == ""
    assert layer.where() == "BinaryConv2d"


def test_naming_again_follows_the_model() -> None:
    layer = nn.SteSign()
    name_layers(torch.nn.Sequential(layer))
    assert layer.where() == "0"
    name_layers(torch.nn.ModuleDict({"act": layer}))
    assert layer.where() == "act"


def test_names_are_no_state() -> None:
    layer, other = nn.BinaryConv2d(2, 2, 1), nn.BinaryConv2d(2, 2, 1)
    name_layers(torch.nn.Sequential(layer))
    assert other.layer_name == ""
    assert set(layer.state_dict()) == {"weight"}


@pytest.mark.parametrize(
    "make",
    [
        nn.BirealBinaryActivation,
        nn.ApproxSign,
        nn.StraightThroughBinaryActivation,
        nn.SteSign,
        lambda: nn.RSign(1),
        nn.Binarize,
        lambda: nn.BinaryConv2d(1, 1, 1),
        lambda: nn.BinaryLinear(1, 1),
    ],
)
def test_every_module_that_binarises_is_a_binary_layer(make: Callable[[], object]) -> None:
    assert isinstance(make(), BinaryLayer)


def test_the_package_offers_what_it_lists() -> None:
    assert len(set(nn.__all__)) == len(nn.__all__)
    for name in nn.__all__:
        assert getattr(nn, name).__doc__, name
