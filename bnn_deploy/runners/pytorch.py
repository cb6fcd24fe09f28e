"""The PyTorch module itself, and what each of its binary layers saw: the reference network of the parity harness."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from bnn_deploy.bits import Levels
from bnn_deploy.error_analysis import ROUNDINGS, Analysis, Response, analyse, layer_constants
from bnn_deploy.errors import InputRefused
from bnn_deploy.nn.layer import name_layers
from bnn_deploy.nn.taps import BinarizeTap, LayerTap, Tap, record_taps
from bnn_deploy.opset import OccurrenceNames, binarize_node_name
from bnn_deploy.reference import Geometry
from bnn_deploy.runners.base import (
    Arrays,
    BinarizationRecord,
    ChannelResponse,
    Exact,
    LayerRecord,
    Recording,
    RunnerBase,
)


class PyTorchRunner(RunnerBase):
    """Runs a module in evaluation mode.

    Args:
        model: The module.
        input_names: Its inputs, in the order of forward's parameters.
        output_names: Its outputs, in the order in which they come.
        threads: PyTorch's threads within an operator, of the whole process, until the runner is closed; None leaves
            them as they are.
    """

    name = "pytorch"

    def __init__(
        self,
        model: nn.Module,
        input_names: Sequence[str],
        output_names: Sequence[str],
        *,
        threads: int | None = None,
    ) -> None:
        self._model = model.eval()
        self._input_names, self._output_names = list(input_names), list(output_names)
        name_layers(model)
        self._threads_before = torch.get_num_threads() if threads is not None else None
        if threads is not None:
            torch.set_num_threads(threads)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._threads_before is not None:
            torch.set_num_threads(self._threads_before)

    def infer(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        if set(feeds) != set(self._input_names):
            raise InputRefused(self.name, f"inputs {sorted(feeds)}", f"inputs {sorted(self._input_names)}")
        return self._forward([torch.from_numpy(np.ascontiguousarray(feeds[name])) for name in self._input_names])

    def _forward(self, inputs: Sequence[Tensor]) -> Arrays:
        with torch.no_grad():
            result = self._model(*inputs)
        leaves = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        return {name: leaf.contiguous().numpy() for name, leaf in zip(self._output_names, leaves, strict=True)}

    def variants(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, Recording]:
        """The same network computed in other orders: what came out, without an error analysis.

        Without oneDNN (mkldnn), whose convolutions sum in another order; with another number of threads; with
        activations and weights stored channels last.
        """
        threads = torch.get_num_threads()
        other_threads = 1 if threads > 1 else 2
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the switch warns about graphics cards
            with torch.backends.mkldnn.flags(enabled=False):
                found = {"without oneDNN": self._taped(feeds)[0]}
        torch.set_num_threads(other_threads)
        try:
            found[f"{other_threads} {'thread' if other_threads == 1 else 'threads'}"] = self._taped(feeds)[0]
        finally:
            torch.set_num_threads(threads)
        if any(array.ndim == 4 for array in feeds.values()):
            found["channels last"] = self._taped(feeds, memory_format=torch.channels_last)[0]
        return found

    def _taped(
        self, feeds: Mapping[str, NDArray[Any]], memory_format: torch.memory_format = torch.contiguous_format
    ) -> tuple[Recording, list[Tap]]:
        """Runs once in float32 and keeps what every binary layer saw and made."""
        inputs = [torch.from_numpy(np.ascontiguousarray(feeds[name])) for name in self._input_names]
        inputs = [x.contiguous(memory_format=memory_format) if x.dim() == 4 else x for x in inputs]
        with record_taps() as taps:
            outputs = self._forward(inputs)
        unique = OccurrenceNames()
        names = [unique(binarize_node_name(tap.layer) if isinstance(tap, BinarizeTap) else tap.layer) for tap in taps]
        binarizations = tuple(
            BinarizationRecord(name, tap.x.detach().contiguous().numpy(), Levels(tap.levels))
            for name, tap in zip(names, taps, strict=True)
            if isinstance(tap, BinarizeTap)
        )
        layers = tuple(
            _layer_record(tap, name) for name, tap in zip(names, taps, strict=True) if isinstance(tap, LayerTap)
        )
        return Recording(outputs, binarizations, layers), taps

    def record(
        self, feeds: Mapping[str, NDArray[Any]], *, precision: str = "fp32", given: Collection[str] = ()
    ) -> Recording:
        """Runs in float32 and keeps what every binary layer saw and made; then again for exact values and bounds."""
        recording, taps = self._taped(feeds)
        binarizations, layers = recording.binarizations, recording.layers
        places = [index for index, record in enumerate(binarizations) if record.name in given]
        inputs = [torch.from_numpy(np.ascontiguousarray(feeds[name])) for name in self._input_names]
        try:
            analysis = analyse(self._model, inputs, taps, ROUNDINGS[precision], places)
        except Exception as error:  # the user's module may do anything with a tensor that it does not expect
            unproven = (" ".join(f"{type(error).__name__}: {error}".split()),)
            return replace(recording, unproven=unproven)
        return Recording(
            recording.outputs,
            tuple(
                replace(record, exact=_exact(pair), source=_source(form, layers))
                for record, pair, form in zip(binarizations, analysis.binarizations, analysis.binarized, strict=True)
            ),
            tuple(_with_analysis(record, analysis, index) for index, record in enumerate(layers)),
            dict(zip(recording.outputs, map(_exact, analysis.outputs), strict=True)),
            tuple(f"no rule for the operator {name}" for name in analysis.unknown),
        )


def _exact(pair: tuple[torch.Tensor, torch.Tensor]) -> Exact:
    return Exact(pair[0].numpy(), pair[1].numpy())


def _source(form: Response | None, layers: Sequence[LayerRecord]) -> tuple[str, ChannelResponse] | None:
    return None if form is None else (layers[form.layer].name, _response(form))


def _with_analysis(record: LayerRecord, analysis: Analysis, index: int) -> LayerRecord:
    activation = analysis.activations[index]
    responses = tuple(_response(form) for form in analysis.responses if form.layer == index)
    return replace(record, exact_x=None if activation is None else _exact(activation), responses=responses)


def _response(form: Response) -> ChannelResponse:
    prelu = None if form.slope is None or form.shift is None else (form.slope.numpy(), form.shift.numpy())
    return ChannelResponse(form.scale.numpy(), form.bias.numpy(), form.alone, prelu)


def _layer_record(tap: LayerTap, name: str) -> LayerRecord:
    scale, bias = layer_constants(tap)
    return LayerRecord(
        name=name,
        x=tap.x.detach().numpy(),
        weight=torch.where(tap.weight.detach() >= 0, 1, -1).to(torch.int8).numpy(),
        scale=scale.numpy(),
        bias=bias.numpy(),
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
