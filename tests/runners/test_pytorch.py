"""What the recording of a PyTorch network says of its layers, and that it names them as the exported file does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from bnn_deploy import nn
from bnn_deploy.bits import Levels
from bnn_deploy.errors import InputRefused
from bnn_deploy.parity.instrument import teacher_forced
from bnn_deploy.reference import Geometry
from bnn_deploy.runners.base import LayerRecord, Recording
from bnn_deploy.runners.pytorch import PyTorchRunner


def record(model: torch.nn.Module, *inputs: Any, outputs: Sequence[str] = ("output",)) -> Recording:
    feeds = {f"x{index}": np.asarray(x, np.float32) for index, x in enumerate(inputs)}
    return PyTorchRunner(model, list(feeds), outputs).record(feeds)


@pytest.mark.parametrize("exporter", ["dynamo", "legacy"])
@pytest.mark.parametrize("network", ["Residual", "Fused", "Assorted", "Repeated"])
def test_names_are_those_of_the_file(network: str, exporter: str, deployed: Callable[..., Any]) -> None:
    given = deployed(network, exporter=exporter)
    recording = PyTorchRunner(given.module, list(given.feeds), ["output"]).record(given.feeds)
    variant = teacher_forced(given.proto())
    names = [layer.name for layer in recording.layers]
    assert sorted(name for layer in variant.layers for name in layer.names) == sorted(names)
    binarizations = [entry.name for entry in recording.binarizations]
    assert {point.name for point in variant.packs} <= set(binarizations)
    for found in (names, binarizations):
        assert len(set(found)) == len(found)


def test_names_count_the_calls(networks: ModuleType) -> None:
    recording = record(networks.make("Repeated"), np.ones((1, 4, 5, 5)))
    assert [layer.name for layer in recording.layers] == [
        "conv",
        "conv#2",
        "BinaryConv2d",
        "mine",
        "conv#3",
        "BinaryLinear",
    ]
    assert [entry.name for entry in recording.binarizations] == [
        "conv/Binarize",
        "conv/Binarize#2",
        "Binarize/Binarize",
        "mine/Binarize",
        "conv/Binarize#3",
        "Binarize/Binarize#2",
    ]


def test_the_model_may_be_one_layer(networks: ModuleType) -> None:
    recording = record(nn.BinaryLinear(3, 2), np.ones((1, 3)))
    assert [layer.name for layer in recording.layers] == ["BinaryLinear"]


@pytest.mark.parametrize(
    ("mode", "alpha"),
    [
        (0, [1.0, 1.0]),
        (1, [0.5, 0.5]),  # (0.25 + 1 + 0.5 + 0.25) / 4, the 3 clamped to 1
        (2, [0.625, 0.375]),
        (3, [0.625, 0.375]),
    ],
)
def test_scale_is_taken_in_float64(mode: int, alpha: list[float]) -> None:
    layer = nn.BinaryLinear(2, 2, True, config=nn.BinarizeConfig(bi_w_scale=mode))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.25, -3.0], [0.0, -0.75]]))
        layer.bias.copy_(torch.tensor([0.5, -0.25]))
    if mode == 1:
        alpha = [(0.25 + 1 + 0 + 0.75) / 4] * 2
    (found,) = record(layer, [[1.0, -1.0]]).layers
    assert found.scale.dtype == np.float64 and found.scale.tolist() == pytest.approx(alpha, abs=0)
    assert found.bias.dtype == np.float64 and found.bias.tolist() == [0.5, -0.25]
    assert found.weight.dtype == np.int8 and found.weight.tolist() == [[1, -1], [1, -1]]
    assert found.geometry is None


def test_a_layer_sees_levels(networks: ModuleType) -> None:
    x = np.float32([0.0, -0.0, 1e-30, -1e-30, np.nan, -np.inf, 3, -3]).reshape(1, 8)
    for zero, levels, wanted in (
        ("one", Levels.BIPOLAR, [1, 1, 1, -1, -1, -1, 1, -1]),
        ("zero", Levels.TERNARY, [0, 0, 1, -1, -1, -1, 1, -1]),
    ):
        layer = nn.BinaryLinear(8, 2, config=nn.BinarizeConfig(zero=zero))
        recording = record(layer, x)
        assert recording.layers[0].x.tolist() == [wanted]
        assert recording.binarizations[0].levels is levels
        np.testing.assert_array_equal(recording.binarizations[0].x, x)


def test_real_activations_are_recorded_as_they_are() -> None:
    layer = nn.BinaryConv2d(2, 3, 1, config=nn.BinarizeConfig(bi_act_method=-1))
    x = np.random.default_rng(0).standard_normal((2, 2, 3, 3)).astype(np.float32)
    recording = record(layer, x)
    np.testing.assert_array_equal(recording.layers[0].x, x)
    assert recording.binarizations == ()


def test_a_layer_with_float_weights_is_no_record() -> None:
    layer = nn.BinaryConv2d(2, 3, 1, config=nn.BinarizeConfig(bi_w_scale=-1))
    recording = record(layer, np.ones((1, 2, 3, 3)))
    assert recording.layers == ()
    assert [entry.name for entry in recording.binarizations] == ["BinaryConv2d/Binarize"]


def test_geometry_and_output(networks: ModuleType, sums: Callable[[LayerRecord], Any]) -> None:
    model = networks.make("Assorted")
    x = np.random.default_rng(0).standard_normal((2, 4, 9, 8)).astype(np.float32)
    layers = {layer.name: layer for layer in record(model, x).layers}
    assert layers["grouped"].geometry == Geometry((1, 1), (2, 2, 2, 2), (2, 2), 2, -1.0)
    assert layers["tall"].geometry == Geometry((2, 1), (1, 0, 1, 0), (1, 1), 1, 1.0)
    assert layers["fc"].geometry is None
    for name, found in layers.items():
        expected = sums(found) * broadcast(found.scale, found) + broadcast(found.bias, found)
        # PyTorch sums at most a few hundred ±alpha in float32: relative to the largest output.
        np.testing.assert_allclose(found.y, expected, rtol=0, atol=1e-6 * float(np.abs(expected).max()), err_msg=name)


def broadcast(per_channel: Any, layer: LayerRecord) -> Any:
    return per_channel if layer.geometry is None else per_channel.reshape(-1, 1, 1)


def test_in_place_operations_do_not_reach_what_was_recorded(
    networks: ModuleType, sums: Callable[[LayerRecord], Any]
) -> None:
    model = networks.make("InPlace")
    x = np.random.default_rng(0).standard_normal((2, 4, 5, 5)).astype(np.float32)
    recording = record(model, x)
    for layer in recording.layers:
        expected = sums(layer) * broadcast(layer.scale, layer)
        np.testing.assert_allclose(layer.y, expected, rtol=0, atol=1e-6 * float(np.abs(expected).max()))
    np.testing.assert_array_equal(recording.binarizations[0].x, x * np.float32(1.5))


def test_outputs_come_in_order_whatever_holds_them(networks: ModuleType) -> None:
    model = networks.make("TwoInputs")
    image, vector = np.ones((2, 3, 5, 5)), np.ones((2, 6))
    outputs = record(model, image, vector, outputs=("a", "b", "c")).outputs
    assert {name: array.shape for name, array in outputs.items()} == {"a": (2, 6, 3, 3), "b": (2, 6), "c": (2, 6)}


def test_running_is_recording_without_the_record(networks: ModuleType) -> None:
    model, x = networks.make("Residual").train(), np.ones((2, 3, 4, 4), np.float32)[:, ::-1]
    runner = PyTorchRunner(model, ["x"], ["output"])
    first, second = runner.infer({"x": x}), runner.record({"x": x})
    np.testing.assert_array_equal(first["output"], second.outputs["output"])
    assert not model.training
    with pytest.raises(InputRefused, match=r"pytorch: inputs \['image'\]; wanted: inputs \['x'\]"):
        runner.infer({"image": x})
