from __future__ import annotations

import pytest
import torch

from bnn_deploy import nn
from bnn_deploy.nn.taps import BinarizeTap, LayerTap, record_taps


def test_every_binary_operation_is_recorded_in_call_order() -> None:
    conv = nn.BinaryConv2d(2, 3, 1, stride=2, bias=True)
    linear = nn.BinaryLinear(3, 4, config=nn.BinarizeConfig(bi_act_method=0, zero="zero"))
    model = torch.nn.Sequential(conv, torch.nn.Flatten(), linear)
    nn.name_layers(model)
    x = torch.randn(5, 2, 1, 1)
    with record_taps() as taps:
        y = model(x)

    first, convolution, second, fully_connected = taps
    assert isinstance(first, BinarizeTap) and isinstance(second, BinarizeTap)
    assert (first.layer, first.levels, second.layer, second.levels) == ("0", "bipolar", "2", "ternary")
    assert torch.equal(first.x, x)
    assert isinstance(convolution, LayerTap) and isinstance(fully_connected, LayerTap)
    assert convolution.layer == "0" and fully_connected.layer == "2"
    assert convolution.geometry == conv.geometry and fully_connected.geometry is None
    assert torch.equal(convolution.x, torch.where(x >= 0, 1.0, -1.0))
    assert torch.equal(convolution.weight, conv.weight)
    assert convolution.bias is not None and fully_connected.bias is None
    assert torch.equal(second.x, convolution.y.flatten(1))
    assert torch.equal(fully_connected.y, y)


def test_recording_ends_with_an_error() -> None:
    layer = nn.BinaryLinear(2, 2)
    with pytest.raises(ZeroDivisionError), record_taps() as taps:
        raise ZeroDivisionError
    layer(torch.zeros(1, 2))
    assert taps == []
