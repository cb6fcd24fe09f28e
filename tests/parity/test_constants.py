"""Scales and biases of a file, against the module's own in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper

from bnn_deploy.parity.constants import constant_failures
from bnn_deploy.parity.instrument import teacher_forced

NETWORKS = ["Residual", "Fused", "Ternary", "Unipolar", "Assorted", "Repeated", "Rectified", "InPlace", "TwoInputs"]


@pytest.mark.parametrize("exporter", ["dynamo", "legacy"])
@pytest.mark.parametrize("network", NETWORKS)
def test_those_of_a_good_file_are_right(network: str, exporter: str, deployed: Callable[..., Any]) -> None:
    given = deployed(network, exporter=exporter)
    model = given.proto()
    assert constant_failures(model, given.record()) == []


@pytest.mark.parametrize(("operand", "channel"), [("scale", 0), ("scale", 33), ("bias", 7)])
def test_one_unit_in_the_last_place_of_one_channel(operand: str, channel: int, deployed: Callable[..., Any]) -> None:
    given = deployed("Residual")
    model = given.proto()
    recording = given.record()
    (layer,) = [layer for layer in teacher_forced(model).layers if layer.names == ("second",)]
    (tensor,) = [tensor for tensor in model.graph.initializer if tensor.name == layer.operands[operand]]
    array = numpy_helper.to_array(tensor).copy()
    array[channel] = np.nextafter(array[channel], np.float32(-np.inf))
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    (failure,) = constant_failures(model, recording)
    assert failure.startswith(f"second: the {operand} of 1 of 34 channels is not the PyTorch network's, rounded once")
    assert f"channel {channel} is off by" in failure


@pytest.mark.parametrize(("operand", "index"), [("slope", 5), ("shift", 6)])
def test_a_slope_or_a_shift_of_one_channel(operand: str, index: int, deployed: Callable[..., Any]) -> None:
    """Of a layer with a shortcut, whose PReLU reads more than the accumulator."""
    given = deployed("Fused")
    model = given.proto()
    (node,) = [node for node in model.graph.node if node.name == "conv"]
    (tensor,) = [tensor for tensor in model.graph.initializer if tensor.name == node.input[index]]
    array = numpy_helper.to_array(tensor).copy()
    array[4] = np.nextafter(array[4], np.float32(np.inf))
    node.input[index] = "changed"
    model.graph.initializer.append(numpy_helper.from_array(array, "changed"))
    (failure,) = constant_failures(model, given.record())
    assert failure.startswith(f"conv: the {operand} of 1 of 10 channels is not the PyTorch network's, rounded once")


def test_the_recording_has_every_step(deployed: Callable[..., Any]) -> None:
    """A layer's own scale, then with its BatchNorm, by an independent formula."""
    given = deployed("Residual")
    (first, _) = given.record().layers
    (own_scale, own_bias), (scale, bias) = [form.affine for form in first.responses][:2]
    norm = given.module.first_norm
    factor = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    np.testing.assert_allclose(
        own_scale, np.abs(given.module.first.weight.detach().double().numpy()).clip(max=1).mean((1, 2, 3))
    )
    assert not own_bias.any()
    np.testing.assert_allclose(scale, own_scale * factor.detach().numpy(), rtol=1e-9)
    np.testing.assert_allclose(bias, (norm.bias.double() - norm.running_mean.double() * factor).detach(), rtol=1e-9)
