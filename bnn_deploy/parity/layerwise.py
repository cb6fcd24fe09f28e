"""Layer by layer: every 1-bit layer is given the reference's own bits, and its accumulators must be equal.

The reference of a layer (`docs/parity.md`): integers computed from the levels that the PyTorch network fed to the layer
and from the signs of its latent weights, then the epilogue in float64. Nothing of it comes from the ONNX file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from bnn_deploy import bits
from bnn_deploy.bits import binarize
from bnn_deploy.opset import CLIP
from bnn_deploy.parity.compare import FLOAT32_ROUNDOFF, MOST_TIES, Difference, difference, flips, shaped
from bnn_deploy.parity.epilogue import epilogue_bound, epilogue_mismatches, exact_epilogue, real_accumulator
from bnn_deploy.parity.instrument import teacher_forced
from bnn_deploy.parity.points import FloatPoint, Instrumented, LayerPoint, PackPoint
from bnn_deploy.parity.results import BinarizationResult, LayerResult
from bnn_deploy.reference import accumulate_conv2d, accumulate_linear, convolve_real, epilogue
from bnn_deploy.runners.base import Arrays, BinarizationRecord, LayerRecord, Recording, Runner

RunnerFactory = Callable[[onnx.ModelProto], Runner]


def compare_layers(
    model: onnx.ModelProto,
    factory: RunnerFactory,
    feeds: Mapping[str, NDArray[Any]],
    recording: Recording,
    *,
    accumulators: Mapping[str, NDArray[Any]] | None = None,
    finite: bool = True,
    unit_roundoff: float = FLOAT32_ROUNDOFF,
) -> tuple[list[LayerResult], list[BinarizationResult], list[str]]:
    """Runs the teacher-forced variant of `model` and compares it with `recording`.

    Args:
        model: The deployed file.
        factory: Makes a runner of a model.
        feeds: Input name -> array.
        recording: What the PyTorch network did with the same feeds.
        accumulators: Layer -> what `reference_accumulator` makes of its record; None computes them.
        finite: Whether every feed is; behind one that is not, integers and packed words alone are judged.
        unit_roundoff: Of the file's float type.

    Returns:
        One result a layer, one a binarisation, and what is wrong with the file as a whole.
    """
    variant = teacher_forced(model, force_streams=True)
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
    forced = {point.forced: forced_bits(point, variant, records) for point in variant.packs}
    forced |= {
        point.forced: binarize(binarized[point.name].x, binarized[point.name].levels).astype(np.float32)
        for point in variant.floats
    }
    forced |= {stream: _stream(binarized[name]) for name, stream in variant.streams.items()}
    with factory(variant.model) as runner:
        outputs = {**feeds, **forced, **runner.infer({**feeds, **forced})}
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    judge = _Judge(outputs, initializers, accumulators or reference_accumulators(recording), finite, unit_roundoff)
    layers = [judge.layer(layer, [records[name] for name in layer.names]) for layer in variant.layers]
    binarizations = [
        judge.binarization(record, found[record.name]) for record in recording.binarizations if record.name in found
    ]
    return layers, binarizations, _output_failures(recording, outputs, unit_roundoff) if finite else []


def _output_failures(recording: Recording, outputs: Arrays, unit_roundoff: float) -> list[str]:
    """What is wrong with the outputs, given the reference's own bits.

    Here and not in the free run alone: there a tie excuses whatever comes after it.
    """
    failures = []
    for name, expected in recording.outputs.items():
        exact = recording.exact_outputs.get(name)
        value, bound = (expected, None) if exact is None else (exact.value, exact.bound)
        gap = difference(value, outputs[name], bound, unit_roundoff=unit_roundoff)
        if not gap.within:
            failures.append(
                f"output {name!r}: off by {gap.max_abs_error:.3g} (tolerance {gap.tolerance:.3g}), "
                "given the reference's own bits"
            )
    return failures


def _stream(record: BinarizationRecord) -> NDArray[Any]:
    """The real tensor that the network goes on with behind a binarisation, float32; the file casts it where it must."""
    value = record.x if record.exact is None else record.exact.value
    return value.astype(np.float32)


def reference_accumulators(recording: Recording) -> dict[str, NDArray[Any]]:
    """Layer -> its accumulators. They cost more than the network itself: once for all runners."""
    return {record.name: reference_accumulator(record) for record in recording.layers}


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


def forced_bits(point: PackPoint, variant: Instrumented, records: Mapping[str, LayerRecord]) -> NDArray[np.int32]:
    """The bits that the reference network fed to the layers behind a binarisation."""
    layer = next(layer for layer in variant.layers if layer.pack == point.name)
    record = records[layer.names[0]]
    return bits.pack_levels(rows_of(record.x.astype(np.int8), record), point.levels)


def rows_of(values: NDArray[Any], record: LayerRecord) -> NDArray[Any]:
    """What a layer reads, channels last. values: of the shape of its x -> [N, H, W, C] or [rows, C]."""
    return np.moveaxis(values, 1, -1) if record.geometry is not None else values.reshape(-1, values.shape[-1])


@dataclass(frozen=True)
class _Judge:
    """Compares one run of the teacher-forced variant; the fields are what all comparisons need."""

    outputs: Arrays
    initializers: Mapping[str, onnx.TensorProto]
    accumulators: Mapping[str, NDArray[Any]]
    finite: bool
    unit_roundoff: float

    def layer(self, layer: LayerPoint, records: Sequence[LayerRecord]) -> LayerResult:
        """records: those of the layers that this one was merged from, most often one."""
        channel_axis = records[0].channel_axis
        expected, error = self._accumulators(records, channel_axis)
        found = shaped(self.outputs[layer.accumulator], expected.shape)
        exact = np.issubdtype(expected.dtype, np.integer)
        mismatches = int((found != expected).sum()) if exact else 0
        gap, inexact = Difference(0.0, 0.0), 0
        if layer.output:
            operands = self._operands(layer, expected.shape)
            clip = layer.clip if layer.epilogue.activation == CLIP else None
            y = shaped(self.outputs[layer.output], expected.shape)
            bound = None
            if error is not None:
                bound = epilogue_bound(expected, error, operands, channel_axis, self.unit_roundoff)
            exact_y = exact_epilogue(expected, operands, clip, channel_axis)
            gap = difference(exact_y, y, bound, unit_roundoff=self.unit_roundoff)
            if exact:
                inexact = epilogue_mismatches(y, expected, operands, clip, channel_axis)
        passed = mismatches == 0 and (not self.finite or (gap.within and inexact == 0))
        return LayerResult(
            "+".join(layer.names),
            expected.size,
            mismatches,
            gap.max_abs_error,
            gap.tolerance,
            passed,
            gap.max_ulp_error,
            gap.bound,
            gap.used,
            inexact,
        )

    def _accumulators(
        self, records: Sequence[LayerRecord], channel_axis: int
    ) -> tuple[NDArray[Any], NDArray[np.float64] | float | None]:
        """The sums, and a bound on their error: 0 for integers, None where it is not known."""
        if all(record.exact_x is not None for record in records):
            pairs = [real_accumulator(record, self.unit_roundoff) for record in records]
            return tuple(np.concatenate([pair[i] for pair in pairs], axis=channel_axis) for i in (0, 1))  # type: ignore[return-value]
        sums = np.concatenate([self.accumulators[record.name] for record in records], axis=channel_axis)
        return sums, 0.0 if np.issubdtype(sums.dtype, np.integer) else None

    def _operands(self, layer: LayerPoint, shape: tuple[int, ...]) -> dict[str, NDArray[Any]]:
        operands = {
            name: numpy_helper.to_array(self.initializers[tensor])
            if tensor in self.initializers
            else self.outputs[tensor]
            for name, tensor in layer.operands.items()
            if name not in ("lower", "upper")
        }
        if "residual" in operands:  # the runner's own, and so as wrong as the runner may be
            operands["residual"] = shaped(operands["residual"], shape)
        return operands

    def binarization(self, record: BinarizationRecord, point: PackPoint | FloatPoint) -> BinarizationResult:
        """One binarisation: its words by the bit contract, its real values, its flips."""
        found = point.read_levels(self.outputs[point.read], record.x.shape)
        flipped = flips(record.x, found, record.levels, record.exact, unit_roundoff=self.unit_roundoff)
        value, bound = (record.x, None) if record.exact is None else (record.exact.value, record.exact.bound)
        plain, wrong_words = False, 0
        if isinstance(point, PackPoint):
            own = point.own_bits(self.outputs[point.condition], record.levels)
            wrong_words = int((own != shaped(self.outputs[point.written], own.shape)).sum())
            plain = point.plain
        # A file may bring a tensor into another shape before it packs it; of another size it can only be wrong. Where
        # it does not hold these values at all, they are compared with themselves for the sake of the bound.
        real = shaped(self.outputs[point.condition], record.x.shape) if plain else value  # type: ignore[union-attr]
        gap = difference(value, real, bound, unit_roundoff=self.unit_roundoff)
        believable = flipped.ties <= MOST_TIES * record.x.size
        sound = gap.within and flipped.bugs == 0 and believable
        return BinarizationResult(
            layer=record.name,
            elements=record.x.size,
            packed_mismatches=wrong_words,
            max_abs_error=gap.max_abs_error if plain else None,
            tolerance=gap.tolerance,
            sign_flips=flipped.count,
            ties=flipped.ties,
            passed=wrong_words == 0 and (sound or not self.finite),
            max_ulp_error=gap.max_ulp_error if plain else None,
            bound=gap.bound,
            bound_used=gap.used,
            flip_distances=flipped.distances,
        )


def compare_pytorch(recording: Recording, accumulators: Mapping[str, NDArray[Any]] | None = None) -> list[LayerResult]:
    """PyTorch's own float32 layers against the integer reference.

    PyTorch has no accumulator: it sums float products of ±alpha. Divided by alpha and rounded, its output must be the
    integer all the same, wherever float32 resolves it.
    """
    known = accumulators or reference_accumulators(recording)
    results = []
    for record in recording.layers:
        channel_axis = record.channel_axis
        expected = known[record.name]
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
