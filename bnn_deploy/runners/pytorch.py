"""The PyTorch module itself, and what each of its binary layers saw: the reference network of the parity harness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from bnn_deploy.bits import Levels
from bnn_deploy.errors import InputRefused
from bnn_deploy.nn.layer import name_layers
from bnn_deploy.nn.taps import BinarizeTap, LayerTap, record_taps
from bnn_deploy.opset import OccurrenceNames, binarize_node_name
from bnn_deploy.reference import Geometry
from bnn_deploy.runners.base import Arrays, BinarizationRecord, LayerRecord, Recording, RunnerBase


class PyTorchRunner(RunnerBase):
    """Runs a module in evaluation mode.

    Args:
        model: The module.
        input_names: Its inputs, in the order of forward's parameters.
        output_names: Its outputs, in the order in which they come.
    """

    name = "pytorch"

    def __init__(self, model: nn.Module, input_names: Sequence[str], output_names: Sequence[str]) -> None:
        self._model = model.eval()
        self._input_names, self._output_names = list(input_names), list(output_names)
        name_layers(model)

    def infer(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        if set(feeds) != set(self._input_names):
            raise InputRefused(self.name, f"inputs {sorted(feeds)}", f"inputs {sorted(self._input_names)}")
        with torch.no_grad():
            result = self._model(*(torch.from_numpy(np.ascontiguousarray(feeds[name])) for name in self._input_names))
        leaves = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        return {name: leaf.numpy() for name, leaf in zip(self._output_names, leaves, strict=True)}

    def record(self, feeds: Mapping[str, NDArray[Any]]) -> Recording:
        """Runs once and keeps what every binary layer saw and made."""
        with record_taps() as taps:
            outputs = self.infer(feeds)
        unique = OccurrenceNames()
        binarizations, layers = [], []
        for tap in taps:
            if isinstance(tap, BinarizeTap):
                name = unique(binarize_node_name(tap.layer))
                binarizations.append(BinarizationRecord(name, tap.x.detach().numpy(), Levels(tap.levels)))
            else:
                layers.append(_layer_record(tap, unique(tap.layer)))
        return Recording(outputs, tuple(binarizations), tuple(layers))


def _layer_record(tap: LayerTap, name: str) -> LayerRecord:
    latent = tap.weight.detach().double()
    magnitude = latent.clamp(-1, 1).abs() if tap.spec.clamp else latent.abs()
    outputs = latent.shape[0]
    alpha = {
        "none": torch.ones(outputs, dtype=torch.float64),
        "tensor": magnitude.mean().expand(outputs),
        "channel": magnitude.reshape(outputs, -1).mean(dim=1),
    }[tap.spec.scale]
    bias = torch.zeros(outputs) if tap.bias is None else tap.bias.detach()
    return LayerRecord(
        name=name,
        x=tap.x.detach().numpy(),
        weight=torch.where(latent >= 0, 1, -1).to(torch.int8).numpy(),
        scale=alpha.numpy(),
        bias=bias.double().numpy(),
        y=tap.y.detach().numpy(),
        geometry=None if tap.geometry is None else _geometry(tap),
    )


def _geometry(tap: LayerTap) -> Geometry:
    if tap.geometry is None:
        raise ValueError(f"{tap.layer} is not a convolution")
    attributes = tap.geometry.attributes()
    return Geometry(
        strides=tuple(attributes["strides"]),
        pads=tuple(attributes["pads"]),
        dilations=tuple(attributes["dilations"]),
        group=attributes["group"],
        pad_value=attributes["pad_value"],
    )
