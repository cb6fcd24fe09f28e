"""The table of layers, of a network that is none; one that TensorRT made is in `test_build.py`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from bnn_deploy.tensorrt.layers import describe_layers


class Layer:
    """An `ILayer`: it shows weights only once it is cast to what has them."""

    def __init__(self, name: str, kind: str, inputs: list[Any], outputs: list[Any], **weights: np.ndarray) -> None:
        self.name, self.type = name, SimpleNamespace(name=kind)
        self._inputs, self._outputs, self.own = inputs, outputs, weights
        self.num_inputs, self.num_outputs = len(inputs), len(outputs)

    def get_input(self, index: int) -> Any:
        return self._inputs[index]

    def get_output(self, index: int) -> Any:
        return self._outputs[index]


class IConstantLayer(Layer):
    @property
    def weights(self) -> np.ndarray:
        return self.own["weights"]


class IConvolutionLayer(Layer):
    @property
    def kernel(self) -> np.ndarray:
        return self.own["kernel"]

    @property
    def bias(self) -> np.ndarray:
        return self.own["bias"]


SDK = SimpleNamespace(IConstantLayer=IConstantLayer, IConvolutionLayer=IConvolutionLayer)


def tensor(name: str, *shape: int) -> Any:
    return SimpleNamespace(name=name, shape=shape, dtype=SimpleNamespace(name="FLOAT"))


def test_every_byte_is_counted_once() -> None:
    x, a, b, shared = tensor("x", -1, 3), tensor("a", -1, 3), tensor("b", -1, 3), tensor("shared", 3)
    layers = [
        Layer("shared", "CONSTANT", [], [shared], weights=np.zeros(3, np.float32)),
        Layer("conv", "CONVOLUTION", [x], [a], kernel=np.zeros(9, np.float16), bias=np.zeros(3, np.float16)),
        Layer("first", "PLUGIN_V3", [a, shared, None], [b]),
        Layer("second", "PLUGIN_V3", [b, shared], [a, None]),
    ]
    network: Any = SimpleNamespace(network=SimpleNamespace(num_layers=len(layers), get_layer=layers.__getitem__))
    rows = describe_layers(SDK, network, {"b": "kHWC8"})
    assert [(row["name"], row["kind"], row["bytes"]) for row in rows] == [
        ("conv", "CONVOLUTION", 24),
        ("first", "PLUGIN_V3", 12),
        ("second", "PLUGIN_V3", 0),
    ]
    assert rows[0]["outputs"] == [{"shape": [-1, 3], "type": "FLOAT"}]
    assert rows[1]["outputs"] == [{"shape": [-1, 3], "type": "FLOAT", "format": "kHWC8"}]
    assert len(rows[2]["outputs"]) == 1
    assert {type(layer) for layer in layers} == {Layer}, "as they were"
