from __future__ import annotations

import pytest
import torch

from bnn_deploy import nn
from bnn_deploy.nn.taps import BinarizeTap, LayerTap, record_taps, substitute_outputs


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


def test_what_was_recorded_stays_as_it_was() -> None:
    """An in-place operation behind a layer writes over the tensor that the layer made or saw."""
    layer = nn.BinaryLinear(2, 3, config=nn.BinarizeConfig(bi_act_method=-1))
    torch.nn.init.constant_(layer.weight, 0.5)
    x = torch.tensor([[1.0, 2.0]])
    with record_taps() as taps:
        y = nn.functional.binarize(x)
        z = layer(y)
        for tensor in (x, y, z):
            tensor.detach().zero_()
    binarization, linear = taps
    assert isinstance(binarization, BinarizeTap) and isinstance(linear, LayerTap)
    assert binarization.x.tolist() == [[1.0, 2.0]]
    assert linear.x.tolist() == [[1.0, 1.0]]
    assert linear.y.tolist() == [[1.0, 1.0, 1.0]]


def test_a_call_without_a_name_has_that_of_its_op() -> None:
    """Both the exported node and the record need one, and neither knows the other's."""
    spec, geometry = nn.WeightBinarization(), nn.ConvGeometry()
    with record_taps() as taps:
        x = nn.functional.binarize(torch.ones(1, 2, 1, 1))
        y = nn.functional.binary_conv2d(x, torch.ones(3, 2, 1, 1), geometry=geometry, spec=spec)
        nn.functional.binary_linear(y.flatten(1), torch.ones(4, 3), spec=spec)
    assert [tap.layer for tap in taps] == ["Binarize", "BinaryConv2d", "BinaryLinear"]


def test_recordings_nest_and_hold_no_graph() -> None:
    layer = nn.BinaryLinear(2, 2)
    with record_taps() as outer:
        layer(torch.ones(1, 2))
        with record_taps() as inner:
            y = layer(torch.ones(1, 2))
        layer(torch.ones(1, 2))
    assert (len(outer), len(inner)) == (4, 2)
    assert y.requires_grad
    for tap in outer:
        assert not tap.x.requires_grad


def test_the_network_goes_on_with_a_substitute() -> None:
    """In call order, and the operation itself does not run: its output in the tap is empty."""
    model = torch.nn.Sequential(nn.BinaryLinear(2, 3), nn.BinaryLinear(3, 1))
    nn.name_layers(model)
    seen = []

    def substitute(tap: BinarizeTap | LayerTap) -> torch.Tensor:
        seen.append(tap)
        return torch.full((4, 3), float(len(seen)))

    with substitute_outputs(substitute), record_taps() as recorded:
        y = model(torch.randn(4, 2))
    assert y.tolist() == [[4.0] * 3] * 4 and recorded == []
    assert [type(tap) for tap in seen] == [BinarizeTap, LayerTap] * 2
    assert seen[1].x.tolist() == [[1.0] * 3] * 4 and seen[1].y.numel() == 0
    assert model(torch.randn(4, 2)).shape == (4, 1)
