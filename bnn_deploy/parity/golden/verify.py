"""Replays a golden bundle on a runner, without PyTorch: which layer is the first that differs, by how much, and where.

First every 1-bit layer is given the recorded bits, so that a difference in one cannot cascade; then the network runs
freely. Accumulators must be equal, a binarised value as recorded or a tie, outputs within the recorded tolerance
(`docs/parity.md`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from bnn_deploy.errors import InputRefused
from bnn_deploy.parity.compare import MOST_TIES, difference, shaped
from bnn_deploy.parity.golden.format import sha256_of_integers
from bnn_deploy.parity.golden.reader import GoldenBits, GoldenBundle, GoldenLayer, GoldenReplay
from bnn_deploy.parity.golden.results import ACCUMULATORS, LEVELS, WORDS, CaseVerification, LayerDifference
from bnn_deploy.parity.instrument import observed, teacher_forced
from bnn_deploy.parity.layerwise import RunnerFactory, forced_bits, reference_accumulator
from bnn_deploy.parity.points import Instrumented, PackPoint
from bnn_deploy.runners.base import Arrays


def verify_golden(
    bundle: GoldenBundle, factories: Mapping[str, RunnerFactory], *, model: onnx.ModelProto | None = None
) -> dict[str, tuple[CaseVerification, ...]]:
    """Replays every case of a bundle on every runner.

    Args:
        bundle: What to hold them to.
        factories: Runner name -> what makes one of a model.
        model: Another file of the same network, to verify in place of the bundle's own.

    Returns:
        Runner name -> one result a case.

    Raises:
        InputRefused: A runner does not run the file, or the reference on this machine is not that of the bundle.
    """
    model = model if model is not None else bundle.model
    return {
        name: tuple(_verify_case(name, factory, model, case) for case in bundle.cases)
        for name, factory in factories.items()
    }


def _verify_case(name: str, factory: RunnerFactory, model: onnx.ModelProto, case: GoldenReplay) -> CaseVerification:
    variant = teacher_forced(model)
    failures = _strangers(variant, case)
    if failures:
        return CaseVerification(name, case.name, case.samples, 0, 0, 0, (), 0.0, None, tuple(failures))
    with factory(variant.model) as runner:
        outputs = {**case.feeds, **runner.infer({**case.feeds, **_forced(variant, case)})}
    found = _Found(variant, outputs)
    signs = [_judge_bits(golden, found, case.finite) for golden in case.binarizations if golden.name in found.points]
    differences = tuple(_in_order(case, found, {entry.name: entry for entry in signs}))
    failures = [str(entry) for entry in differences]
    error, first = 0.0, ""
    if case.finite:
        failures += [
            f"{entry.name}: {entry.ties:,} of {entry.elements:,} binarised values differ by a tie each; "
            "so many are no accident of rounding"
            for entry in signs
            if entry.ties > MOST_TIES * entry.elements
        ]
        failures += _output_failures(case, outputs, "given the recorded bits")
        error = max(_output_errors(case, outputs).values(), default=0.0)
        first, more = _run_freely(factory, model, case)
        failures += more
    return CaseVerification(
        runner=name,
        case=case.name,
        samples=case.samples,
        accumulators=sum(int(np.prod(layer.shape)) for layer in case.layers if layer.accumulator_sha256 is not None),
        levels=sum(entry.elements for entry in signs),
        ties=sum(entry.ties for entry in signs),
        differences=differences,
        max_abs_error=error,
        first_divergence=first or None,
        failures=tuple(failures),
    )


def _strangers(variant: Instrumented, case: GoldenReplay) -> list[str]:
    """Layers and binarisations that only the file has, or only the bundle: then it is a file of another network."""
    layers = {name for layer in variant.layers for name in layer.names}
    recorded = {layer.record.name for layer in case.layers}
    known = {golden.name for golden in case.binarizations}
    return [
        *(f"{name}: a layer of the file that the bundle does not have" for name in sorted(layers - recorded)),
        *(f"{name}: a layer of the bundle that the file does not have" for name in sorted(recorded - layers)),
        *(
            f"{name}: binarised in the file, and nothing is binarised there in the bundle"
            for name in sorted(set(variant.binarizations()) - known)
        ),
    ]


def _forced(variant: Instrumented, case: GoldenReplay) -> Arrays:
    """The recorded bits, as inputs of the teacher-forced model."""
    records = {layer.record.name: layer.record for layer in case.layers}
    expected = {golden.name: golden.expected for golden in case.binarizations}
    forced: Arrays = {point.forced: forced_bits(point, variant, records) for point in variant.packs}
    return forced | {point.forced: expected[point.name].astype(np.float32) for point in variant.floats}


class _Found:
    """What a runner made of the teacher-forced model, by the names of the recording."""

    def __init__(self, variant: Instrumented, outputs: Arrays) -> None:
        self.points, self.outputs = variant.binarizations(), outputs
        self._layers = {name: point for point in variant.layers for name in point.names}

    def pack_of(self, layer: str) -> str:
        """The binarisation that a layer reads; empty for one with float activations."""
        return self._layers[layer].pack

    def accumulator(self, golden: GoldenLayer, shapes: Mapping[str, tuple[int, ...]]) -> NDArray[Any]:
        """Of one layer: its share of the channels of the layer that it was merged into. NaN where it does not fit.

        shapes: layer name -> shape of its accumulators.
        """
        name, point = golden.record.name, self._layers[golden.record.name]
        axis = golden.record.channel_axis
        ends = np.cumsum([shapes[part][axis] for part in point.names])
        whole = list(golden.shape)
        whole[axis] = int(ends[-1])
        parts = np.split(shaped(self.outputs[point.accumulator], tuple(whole)), ends[:-1], axis=axis)
        return parts[point.names.index(name)]


@dataclass(frozen=True)
class _Signs:
    """One binarisation of a runner against the recorded one; `elements` is 0 where its values are not judged."""

    name: str
    elements: int
    ties: int
    differences: tuple[LayerDifference, ...]


def _judge_bits(golden: GoldenBits, found: _Found, finite: bool) -> _Signs:
    point = found.points[golden.name]
    differences, elements, ties = [], 0, 0
    if finite:
        values = point.read_levels(found.outputs[point.read], golden.expected.shape)
        differs = values != golden.expected
        bugs = differs & ~golden.ties
        elements, ties = differs.size, int((differs & golden.ties).sum())
        if bugs.any():
            differences.append(LayerDifference.where(golden.name, LEVELS, golden.expected, values, bugs))
    if isinstance(point, PackPoint):
        own = point.own_bits(found.outputs[point.condition], golden.levels)
        wrong = int((own != shaped(found.outputs[point.written], own.shape)).sum())
        if wrong:
            differences.append(LayerDifference(golden.name, WORDS, wrong, own.size))
    return _Signs(golden.name, elements, ties, tuple(differences))


def _judge_layer(golden: GoldenLayer, found: NDArray[Any]) -> LayerDifference | None:
    with np.errstate(invalid="ignore"):
        integers = found.astype(np.int32)
    whole = bool((integers == found).all())
    if whole and sha256_of_integers(integers) == golden.accumulator_sha256:
        return None
    expected = reference_accumulator(golden.record)
    if sha256_of_integers(expected) != golden.accumulator_sha256:
        raise InputRefused(
            golden.record.name,
            "accumulators that the recorded bits and weights do not yield on this machine",
            "those of the hash in the bundle",
            "write the bundle again with this version of bnn_deploy, or check the NumPy of this machine",
        )
    return LayerDifference.where(golden.record.name, ACCUMULATORS, expected, found, found != expected)


def _in_order(case: GoldenReplay, found: _Found, signs: Mapping[str, _Signs]) -> Iterator[LayerDifference]:
    """Every difference, in the order of the network: what a layer reads comes before the layer."""
    waiting = [golden.name for golden in case.binarizations]
    shapes = {golden.record.name: golden.shape for golden in case.layers}
    for golden in case.layers:
        while found.pack_of(golden.record.name) in waiting:
            if (name := waiting.pop(0)) in signs:
                yield from signs[name].differences
        if golden.accumulator_sha256 is not None:
            entry = _judge_layer(golden, found.accumulator(golden, shapes))
            if entry is not None:
                yield entry
    for name in waiting:
        if name in signs:
            yield from signs[name].differences


def _run_freely(factory: RunnerFactory, model: onnx.ModelProto, case: GoldenReplay) -> tuple[str, list[str]]:
    """The first binarisation that is not as recorded, or nothing, and what failed. Behind a tie nothing is judged."""
    variant = observed(model)
    with factory(variant.model) as runner:
        outputs = {**case.feeds, **runner.infer(case.feeds)}
    points = variant.binarizations()
    for golden in case.binarizations:
        if golden.name not in points:
            continue
        point = points[golden.name]
        differs = point.read_levels(outputs[point.read], golden.expected.shape) != golden.expected
        bugs = int((differs & ~golden.ties).sum())
        if bugs:
            return golden.name, [
                f"{golden.name}: running freely, {bugs:,} binarised values differ that no rounding explains"
            ]
        if differs.any():
            return golden.name, []
    return "", _output_failures(case, outputs, "running freely, though all binarised values agree")


def _output_failures(case: GoldenReplay, outputs: Arrays, how: str) -> list[str]:
    return [
        f"output {name!r}: off by {error:.3g} (tolerance {case.tolerances[name]:.3g}), {how}"
        for name, error in _output_errors(case, outputs).items()
        if not error <= case.tolerances[name]
    ]


def _output_errors(case: GoldenReplay, outputs: Arrays) -> dict[str, float]:
    return {name: difference(expected, outputs[name]).max_abs_error for name, expected in case.outputs.items()}
