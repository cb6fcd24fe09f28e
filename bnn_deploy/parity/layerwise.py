"""Layer by layer: every 1-bit layer is given the reference's own bits, and its accumulators must be equal.

The reference of a layer (`docs/parity.md`): integers computed from the levels that the PyTorch network fed to the layer
and from the signs of its latent weights, then the epilogue in float64. Nothing of it comes from the ONNX file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from bnn_deploy import bits
from bnn_deploy.bits import Levels
from bnn_deploy.parity.compare import difference, flips
from bnn_deploy.parity.instrument import Instrumented, LayerPoint, PackPoint, teacher_forced
from bnn_deploy.parity.results import BinarizationResult, LayerResult
from bnn_deploy.reference import accumulate_conv2d, accumulate_linear, convolve_real, epilogue
from bnn_deploy.runners.base import Arrays, BinarizationRecord, LayerRecord, Recording, Runner

RunnerFactory = Callable[[onnx.ModelProto], Runner]


def compare_layers(
    model: onnx.ModelProto, factory: RunnerFactory, feeds: Mapping[str, NDArray[Any]], recording: Recording
) -> tuple[list[LayerResult], list[BinarizationResult], list[str]]:
    """Runs the teacher-forced variant of `model` and compares it with `recording`.

    Args:
        model: The deployed file.
        factory: Makes a runner of a model.
        feeds: Input name -> array.
        recording: What the PyTorch network did with the same feeds.

    Returns:
        One result a layer, one a binarisation, and what is wrong with the file as a whole.
    """
    variant = teacher_forced(model)
    records = {record.name: record for record in recording.layers}
    failures = [
        f"{layer.name}: not a layer of the PyTorch network; the file is of another model"
        for layer in variant.layers
        if layer.name not in records
    ]
    failures += [
        f"{name}: missing in the file, or left as a float layer"
        for name in records
        if name not in {layer.name for layer in variant.layers}
    ]
    if failures:
        return [], [], failures
    levels = {record.name: record.levels for record in recording.binarizations}
    forced = {point.forced: _forced_bits(point, variant, records, levels) for point in variant.packs}
    with factory(variant.model) as runner:
        outputs = {**feeds, **runner.infer({**feeds, **forced})}
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    layers = [_compare_layer(layer, records[layer.name], outputs, initializers) for layer in variant.layers]
    found = {point.name: point for point in variant.packs}
    binarizations = [
        _compare_binarization(record, found[record.name], outputs)
        for record in recording.binarizations
        if record.name in found
    ]
    failures += [
        f"{name}: packed in the file, and the PyTorch network binarises nothing there"
        for name in found
        if name not in levels
    ]
    return layers, binarizations, failures


def reference_accumulator(record: LayerRecord) -> NDArray[Any]:
    """The integers of a layer, int32; with float activations, its sums in float64. The shape is that of its y."""
    binary = bool(np.isin(record.x, (-1, 0, 1)).all())
    if record.geometry is None:
        if binary:
            return accumulate_linear(record.x.astype(np.int8), record.weight)
        return record.x.astype(np.float64) @ record.weight.astype(np.float64).T
    if binary:
        return accumulate_conv2d(record.x.astype(np.int8), record.weight, record.geometry)
    return convolve_real(record.x, record.weight, record.geometry)


def _forced_bits(
    point: PackPoint, variant: Instrumented, records: Mapping[str, LayerRecord], levels: Mapping[str, Levels]
) -> NDArray[np.int32]:
    """The bits that the reference network fed to the layers behind a binarisation."""
    layer = next(layer for layer in variant.layers if layer.pack == point.name)
    record = records[layer.name]
    values = record.x.astype(np.int8)
    rows = np.moveaxis(values, 1, -1) if record.geometry is not None else values.reshape(-1, values.shape[-1])
    return bits.pack_levels(rows, levels.get(point.name, Levels.BIPOLAR))


def _compare_layer(
    layer: LayerPoint, record: LayerRecord, outputs: Arrays, initializers: Mapping[str, onnx.TensorProto]
) -> LayerResult:
    expected = reference_accumulator(record)
    found = outputs[layer.accumulator].reshape(expected.shape)
    exact = np.issubdtype(expected.dtype, np.integer)
    mismatches = int((found != expected).sum()) if exact else 0
    channel_axis = 1 if record.geometry is not None else -1
    scale, bias = (numpy_helper.to_array(initializers[name]) for name in (layer.scale, layer.bias))
    gap = difference(
        epilogue(expected, scale, bias, channel_axis=channel_axis), outputs[layer.output].reshape(expected.shape)
    )
    passed = mismatches == 0 and gap.within
    return LayerResult(layer.name, expected.size, mismatches, gap.max_abs_error, gap.tolerance, passed)


def _compare_binarization(record: BinarizationRecord, point: PackPoint, outputs: Arrays) -> BinarizationResult:
    found = outputs[point.real]
    expected = record.x.reshape(found.shape)
    packed = bits.pack_levels(np.moveaxis(bits.binarize(found, record.levels), 1, -1), record.levels)
    wrong_words = int((packed != outputs[point.packed]).sum())
    gap, flipped = difference(expected, found), flips(expected, found, record.levels)
    passed = wrong_words == 0 and gap.within and flipped.bugs == 0
    return BinarizationResult(
        record.name, found.size, wrong_words, gap.max_abs_error, gap.tolerance, flipped.count, flipped.ties, passed
    )


def compare_pytorch(recording: Recording) -> list[LayerResult]:
    """PyTorch's own float32 layers against the integer reference.

    PyTorch has no accumulator: it sums float products of ±alpha. Divided by alpha and rounded, its output must be the
    integer all the same.
    """
    results = []
    for record in recording.layers:
        channel_axis = 1 if record.geometry is not None else -1
        expected = reference_accumulator(record)
        gap = difference(epilogue(expected, record.scale, record.bias, channel_axis=channel_axis), record.y)
        mismatches = 0
        if np.issubdtype(expected.dtype, np.integer):
            shape = [1] * expected.ndim
            shape[channel_axis] = -1
            scale, bias = record.scale.reshape(shape), record.bias.reshape(shape)
            with np.errstate(divide="ignore", invalid="ignore"):
                recovered = np.where(scale == 0, expected, np.rint((record.y - bias) / scale))
            mismatches = int((recovered != expected).sum())
        results.append(
            LayerResult(
                record.name, expected.size, mismatches, gap.max_abs_error, gap.tolerance, mismatches == 0 and gap.within
            )
        )
    return results
