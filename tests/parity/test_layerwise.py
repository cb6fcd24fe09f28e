"""The reference of a layer, against PyTorch in float64, and what is said of PyTorch's own float32."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from bnn_deploy import nn
from bnn_deploy.parity.layerwise import compare_layers, compare_pytorch, reference_accumulator
from bnn_deploy.runners.base import Recording
from bnn_deploy.runners.onnxruntime import OnnxRuntimeRunner
from bnn_deploy.runners.pytorch import PyTorchRunner


def record(model: torch.nn.Module, x: Any) -> Recording:
    return PyTorchRunner(model, ["x"], ["output"]).record({"x": np.asarray(x, np.float32)})


@pytest.mark.parametrize("network", ["Residual", "Fused", "Ternary", "Assorted", "Repeated"])
def test_accumulators(network: str, deployed: Callable[..., Any], sums: Callable[..., Any]) -> None:
    given = deployed(network)
    for layer in record(given.module, given.feeds["x"]).layers:
        found, expected = reference_accumulator(layer), sums(layer)
        if layer.name == "weights_only":
            assert found.dtype == np.float64
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
        else:
            assert found.dtype == np.int32
            np.testing.assert_array_equal(found, expected)


def test_leading_axes_are_kept(sums: Callable[..., Any]) -> None:
    layer = nn.BinaryLinear(6, 4)
    x = np.random.default_rng(0).standard_normal((2, 3, 6))
    (found,) = record(layer, x).layers
    assert reference_accumulator(found).shape == (2, 3, 4)
    np.testing.assert_array_equal(reference_accumulator(found), sums(found))


def test_every_element_is_counted(deployed: Callable[..., Any]) -> None:
    given = deployed("Residual")
    recording = record(given.module, given.feeds["x"])
    layers, binarizations, failures = compare_layers(given.proto(), OnnxRuntimeRunner, given.feeds, recording)
    assert failures == []
    assert {layer.layer: layer.elements for layer in layers} == {"first": 6 * 34 * 16, "second": 6 * 34 * 4}
    assert {entry.layer: entry.elements for entry in binarizations} == {
        "first/Binarize": 6 * 34 * 16,
        "second/Binarize": 6 * 34 * 16,
    }


def changed(recording: Recording, index: int, **changes: Any) -> Recording:
    layers = list(recording.layers)
    layers[index] = dataclasses.replace(layers[index], **changes)
    return dataclasses.replace(recording, layers=tuple(layers))


class TestPyTorchItself:
    @pytest.fixture
    def recording(self, networks: ModuleType) -> Recording:
        return record(networks.make("Assorted"), np.random.default_rng(1).standard_normal((2, 4, 9, 8)))

    def test_is_right(self, recording: Recording) -> None:
        results = compare_pytorch(recording)
        assert [result.layer for result in results] == ["grouped", "tall", "weights_only", "fc"]
        assert all(result.passed and result.accumulator_mismatches == 0 for result in results)
        assert [result.elements for result in results] == [layer.y.size for layer in recording.layers]

    def test_one_step_of_one_accumulator(self, recording: Recording) -> None:
        layer = recording.layers[0]
        y = layer.y.copy()
        y[1, 5, 2, 3] += np.float32(layer.scale[5])
        first, *others = compare_pytorch(changed(recording, 0, y=y))
        assert (first.layer, first.accumulator_mismatches, first.passed) == ("grouped", 1, False)
        assert all(result.passed for result in others)

    def test_an_error_that_no_integer_shows(self, recording: Recording) -> None:
        layer = recording.layers[1]
        y = layer.y.copy()
        y[0, 0, 0, 0] += np.float32(0.25 * layer.scale[0])
        result = compare_pytorch(changed(recording, 1, y=y))[1]
        assert result.accumulator_mismatches == 0 and not result.passed
        assert result.max_abs_error == pytest.approx(0.25 * layer.scale[0], rel=1e-4)

    def test_real_sums_have_no_integers(self, recording: Recording) -> None:
        layer = recording.layers[2]
        result = compare_pytorch(changed(recording, 2, y=layer.y * np.float32(1.001)))[2]
        assert (result.layer, result.accumulator_mismatches, result.passed) == ("weights_only", 0, False)

    @pytest.mark.parametrize("scale", [1e-12, 0.0])
    def test_a_bias_that_swallows_the_sums(self, scale: float) -> None:
        """0.3 + 1e-12 is 0.3 in float32: PyTorch's output no longer holds the integer, and that is no error of its."""
        layer = nn.BinaryLinear(6, 5, True)
        with torch.no_grad():
            layer.weight.mul_(scale)
            layer.bias.fill_(0.3)
        recording = record(layer, np.random.default_rng(0).standard_normal((4, 6)))
        (result,) = compare_pytorch(recording)
        assert result.passed and result.accumulator_mismatches == 0
        (wrong,) = compare_pytorch(changed(recording, 0, y=recording.layers[0].y + np.float32(0.01)))
        assert not wrong.passed
