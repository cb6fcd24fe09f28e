"""Layer by layer: every 1-bit layer is given the reference's own bits, and its accumulators must be equal.

The reference of a layer (`docs/parity.md`): integers computed from the levels that the PyTorch network fed to the layer
and from the signs of its latent weights, then the epilogue in float64. Nothing of it comes from the ONNX file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from bnn_deploy import bits
from bnn_deploy.bits import binarize
from bnn_deploy.opset import CLIP
from bnn_deploy.parity.compare import MOST_TIES, Difference, difference, flips, shaped, tolerance_of
from bnn_deploy.parity.instrument import FloatPoint, Instrumented, LayerPoint, PackPoint, teacher_forced
from bnn_deploy.parity.results import BinarizationResult, LayerResult
from bnn_deploy.reference import accumulate_conv2d, accumulate_linear, behind_epilogue, convolve_real, epilogue
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
    there = {name for layer in variant.layers for name in layer.names}
    failures = [
        f"{name}: not a layer of the PyTorch network; the file is of another model" for name in there - set(records)
    ]
    failures += [
        f"{name}: missing in the file, left as a float layer, or of no use to the outputs"
        for name in records
        if name not in there
    ]
    if failures:
        return [], [], failures
    binarized = {record.name: record for record in recording.binarizations}
    found = variant.binarizations()
    failures += [
        f"{name}: binarised in the file, and the PyTorch network binarises nothing there"
        for name in found
        if name not in binarized
    ]
    if failures:
        return [], [], failures
    forced = {point.forced: _forced_bits(point, variant, records) for point in variant.packs}
    forced |= {
        point.forced: binarize(binarized[point.name].x, binarized[point.name].levels).astype(np.float32)
        for point in variant.floats
    }
    with factory(variant.model) as runner:
        outputs = {**feeds, **runner.infer({**feeds, **forced})}
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    layers = [
        _compare_layer(layer, [records[name] for name in layer.names], outputs, initializers)
        for layer in variant.layers
    ]
    binarizations = [
        _compare_binarization(record, found[record.name], outputs)
        for record in recording.binarizations
        if record.name in found
    ]
    # Here and not in the free run alone: there a tie excuses whatever comes after it.
    for name, expected in recording.outputs.items():
        gap = difference(expected, outputs[name])
        if not gap.within:
            failures.append(
                f"output {name!r}: off by {gap.max_abs_error:.3g} (tolerance {gap.tolerance:.3g}), "
                "given the reference's own bits"
            )
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


def _forced_bits(point: PackPoint, variant: Instrumented, records: Mapping[str, LayerRecord]) -> NDArray[np.int32]:
    """The bits that the reference network fed to the layers behind a binarisation."""
    layer = next(layer for layer in variant.layers if layer.pack == point.name)
    record = records[layer.names[0]]
    values = record.x.astype(np.int8)
    rows = np.moveaxis(values, 1, -1) if record.geometry is not None else values.reshape(-1, values.shape[-1])
    return bits.pack_levels(rows, point.levels)


def _compare_layer(
    layer: LayerPoint,
    records: Sequence[LayerRecord],
    outputs: Arrays,
    initializers: Mapping[str, onnx.TensorProto],
) -> LayerResult:
    """records: those of the layers that this one was merged from, most often one."""
    channel_axis = 1 if records[0].geometry is not None else -1
    expected = np.concatenate([reference_accumulator(record) for record in records], axis=channel_axis)
    found = shaped(outputs[layer.accumulator], expected.shape)
    exact = np.issubdtype(expected.dtype, np.integer)
    mismatches = int((found != expected).sum()) if exact else 0
    gap = Difference(0.0, 0.0)
    if layer.output:
        operands = {
            name: numpy_helper.to_array(initializers[tensor]) if tensor in initializers else outputs[tensor]
            for name, tensor in layer.operands.items()
        }
        if "residual" in operands:  # the runner's own, and so as wrong as the runner may be
            operands["residual"] = shaped(operands["residual"], expected.shape)
        y = epilogue(expected, operands["scale"], operands["bias"], channel_axis=channel_axis)
        y = behind_epilogue(
            y,
            channel_axis=channel_axis,
            residual=operands.get("residual"),
            slope=operands.get("slope"),
            shift=operands.get("shift"),
            clip=layer.clip if layer.epilogue.activation == CLIP else None,
        )
        gap = difference(y, shaped(outputs[layer.output], expected.shape))
    passed = mismatches == 0 and gap.within
    name = "+".join(layer.names)
    return LayerResult(name, expected.size, mismatches, gap.max_abs_error, gap.tolerance, passed)


def _compare_binarization(
    record: BinarizationRecord, point: PackPoint | FloatPoint, outputs: Arrays
) -> BinarizationResult:
    flipped = flips(record.x, point.read_levels(outputs[point.read], record.x.shape), record.levels)
    error, wrong_words = None, 0
    gap = Difference(0.0, tolerance_of(record.x.astype(np.float64)))
    if isinstance(point, PackPoint):
        own = point.own_bits(outputs[point.condition], record.levels)
        wrong_words = int((own != shaped(outputs[point.written], own.shape)).sum())
    if isinstance(point, PackPoint) and point.plain:
        # A file may bring a tensor into another shape before it packs it; of another size it can only be wrong.
        gap = difference(record.x, shaped(outputs[point.condition], record.x.shape))
        error = gap.max_abs_error
    believable = flipped.ties <= MOST_TIES * record.x.size
    passed = wrong_words == 0 and gap.within and flipped.bugs == 0 and believable
    return BinarizationResult(
        record.name, record.x.size, wrong_words, error, gap.tolerance, flipped.count, flipped.ties, passed
    )


def compare_pytorch(recording: Recording) -> list[LayerResult]:
    """PyTorch's own float32 layers against the integer reference.

    PyTorch has no accumulator: it sums float products of ±alpha. Divided by alpha and rounded, its output must be the
    integer all the same, wherever float32 resolves it.
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
                recovered = np.rint((record.y - bias) / scale)
            # Where the bias swallows a step of the accumulator, y in float32 does not tell one integer from the next.
            legible = np.abs(scale) > 4 * np.spacing(np.abs(record.y) + np.abs(bias).astype(np.float32))
            mismatches = int(((recovered != expected) & legible).sum())
        results.append(
            LayerResult(
                record.name, expected.size, mismatches, gap.max_abs_error, gap.tolerance, mismatches == 0 and gap.within
            )
        )
    return results
