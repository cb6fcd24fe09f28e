"""The constants of a file, against those of the PyTorch network, folded in float64 and rounded once.

A layer's accumulator goes through its own scale, a BatchNorm, factors and offsets; a file holds all or some of that as
one scale and one bias a channel, and a PReLU behind it as one slope and one shift. The recording has them after each
such step, derived from the module in float64 and independently of the passes. A file's pair must be one of these, off
by no more than the half unit in the last place that rounding costs. (`thresholds` checks what became integers.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from bnn_deploy.parity.instrument import teacher_forced
from bnn_deploy.runners.base import LayerRecord, Recording

HALF_ULP = 0.5 + 1e-3  # float64 may derive the constant in another order
RECOGNISED = 1e-4
"""Relative; a pair that is further from each of those recorded went through a step that leaves no record (a reshape):
what it does is judged by the values that come out."""

PAIRS = (("scale", "bias"), ("slope", "shift"))
Names = tuple[str, str]
Pair = tuple[NDArray[np.float64], NDArray[np.float64]]


def constant_failures(model: onnx.ModelProto, recording: Recording) -> list[str]:
    """What is wrong with scales, biases, slopes and shifts of the file, a line each layer and operand."""
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    records = {record.name: record for record in recording.layers}
    failures = []
    for layer in teacher_forced(model).layers:
        known = [records[name] for name in layer.names if name in records]
        for names in PAIRS:
            constants = [arrays.get(layer.operands.get(name, "")) for name in names]
            if len(known) == len(layer.names) and all(array is not None for array in constants):
                failures += _layer_failures(names, known, [np.asarray(array, np.float64) for array in constants])
    return failures


def _layer_failures(names: Names, records: Sequence[LayerRecord], found: list[NDArray[Any]]) -> list[str]:
    failures, first = [], 0
    for record in records:
        last = first + len(record.scale)
        failures += _record_failures(names, record, (found[0][first:last], found[1][first:last]))
        first = last
    return failures


def _record_failures(names: Names, record: LayerRecord, found: Pair) -> list[str]:
    forms = [form.affine if names == PAIRS[0] else form.prelu for form in record.responses]
    fitting = [form for form in forms if form is not None and len(form[0]) == len(found[0])]
    if not fitting:
        return []
    nearest = min(fitting, key=lambda form: _farthest(form, found))
    if _farthest(nearest, found) > RECOGNISED:
        return []
    failures = []
    for name, expected, array in zip(names, nearest, found, strict=True):
        off = np.abs(array - expected) / np.spacing(np.abs(expected).astype(np.float32)).astype(np.float64)
        if (off > HALF_ULP).any():
            channel = int(off.argmax())
            failures.append(
                f"{record.name}: the {name} of {int((off > HALF_ULP).sum())} of {len(off)} channels is not the PyTorch "
                f"network's, rounded once; that of channel {channel} is off by {off[channel]:.3g} units in the last "
                "place"
            )
    return failures


def _farthest(form: Pair, found: Pair) -> float:
    """The median distance of a pair, relative to its largest entry: one wrong channel does not hide which it is."""
    distances = []
    for expected, array in zip(form, found, strict=True):
        largest = float(np.abs(expected).max(initial=0.0)) or 1.0
        distances.append(float(np.median(np.abs(array - expected))) / largest)
    return max(distances)
