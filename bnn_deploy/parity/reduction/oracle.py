"""What every tensor of a deployed file should be, and what any part of the file should compute.

Two sources, and both are needed. The *recording* of the PyTorch network knows some tensors, the anchors: the bits that
each layer reads, the accumulators, the real values that are binarised at 0, the outputs. The *mended file* is the file
with the recording's weights, levels, geometry, scale and bias in its 1-bit layers; NumPy computes it exactly, for any
input. Between two anchors a tensor is what the mended file makes of the nearest anchors in front.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from bnn_deploy import bits
from bnn_deploy.bits import Levels
from bnn_deploy.evaluator import reference_evaluator
from bnn_deploy.parity.compare import FLOAT32_ROUNDOFF, tolerance_of
from bnn_deploy.parity.harness import UNIT_ROUNDOFF, precision_of
from bnn_deploy.parity.instrument import teacher_forced
from bnn_deploy.parity.layerwise import forced_bits, reference_accumulator, rows_of
from bnn_deploy.parity.points import Instrumented, PackPoint
from bnn_deploy.parity.reduction.mend import mend
from bnn_deploy.parity.reduction.subgraph import border, extract
from bnn_deploy.reproduce import differing
from bnn_deploy.runners.base import Arrays, Recording


@dataclass(frozen=True)
class Expected:
    """A tensor as it should be; `tolerance` and `care` are those of `reproduce.differing`."""

    values: NDArray[Any]
    tolerance: float = 0.0
    care: NDArray[Any] | None = None

    def differing(self, found: NDArray[Any]) -> NDArray[np.bool_]:
        """Where `found` is something else."""
        return differing(self.values, found, self.tolerance, self.care)

    def samples(self, chosen: list[int], count: int) -> Expected:
        """Of some samples."""
        care = None if self.care is None else of_samples(self.care, chosen, count)
        return Expected(of_samples(self.values, chosen, count), self.tolerance, care)


@dataclass(frozen=True)
class Subject:
    """A file, or a variant of it, beside its mended twin: the same nodes in the same order.

    Attributes:
        file: As it is.
        mended: As it should be.
        packs: Its binarisations.
        accumulators: Names of accumulators -> names of the layers that they are of.
    """

    file: onnx.ModelProto
    mended: onnx.ModelProto
    packs: tuple[PackPoint, ...]
    accumulators: Mapping[str, str] = field(default_factory=dict)

    def name_of(self, index: int) -> str:
        """What a node is called: by its layer, where it is the twin that yields the accumulator; at worst by its op."""
        node = self.file.graph.node[index]
        return self.accumulators.get(node.output[0], node.name or node.op_type)

    def compute(
        self, chosen: Collection[int], inputs: Arrays, outputs: Collection[str] | None = None, *, mended: bool = True
    ) -> dict[str, Expected]:
        """What some nodes make of `inputs`, in integers and float64.

        A bit counts unless the value that it is cut from, made by these nodes too, lies within rounding of its
        threshold.
        """
        model = self.mended if mended else self.file
        outputs = border(model, chosen) if outputs is None else outputs
        if not outputs:
            return {}
        made = {name for index in chosen for name in model.graph.node[index].output}
        cut = {point.written: point for point in self.packs if point.written in outputs and point.condition in made}
        asked = list(dict.fromkeys([*outputs, *(point.condition for point in cut.values())]))
        part = extract(model, chosen, inputs, outputs=())
        part.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in asked)
        found = dict(zip(asked, reference_evaluator(part).run(asked, inputs), strict=True))
        unit = UNIT_ROUNDOFF[precision_of(self.file)]
        cares = {name: _away_from_bounds(point, found[point.condition], unit) for name, point in cut.items()}
        return {name: Expected(found[name], rounding(found[name], unit), cares.get(name)) for name in outputs}


def rounding(values: NDArray[Any], unit_roundoff: float = FLOAT32_ROUNDOFF) -> float:
    """The difference that counts as rounding: none between integers.

    Args:
        values: As they should be.
        unit_roundoff: Of what they were made from, where that is more than that of their type.
    """
    if not np.issubdtype(values.dtype, np.floating):
        return 0.0
    unit_roundoff = max(float(np.finfo(values.dtype).eps) / 2, unit_roundoff)
    return tolerance_of(values.astype(np.float64)) * unit_roundoff / FLOAT32_ROUNDOFF


def of_samples(array: NDArray[Any], chosen: list[int], count: int) -> NDArray[Any]:
    """The rows of some of `count` samples; an array without an axis of samples stays whole."""
    return array[chosen] if array.ndim and array.shape[0] == count else array


def anchors(variant: Instrumented, recording: Recording) -> dict[str, Expected]:
    """The tensors of the teacher-forced file that the recording knows; a shape may be another one of the same size."""
    unit = UNIT_ROUNDOFF[precision_of(variant.model)]
    records = {record.name: record for record in recording.layers}
    binarized = {record.name: record for record in recording.binarizations}
    known = {name: Expected(array, rounding(array, unit)) for name, array in recording.outputs.items()}
    for layer in variant.layers:
        of_layer = [records[name] for name in layer.names]
        sums = np.concatenate([reference_accumulator(one) for one in of_layer], axis=of_layer[0].channel_axis)
        known[layer.accumulator] = Expected(sums.astype(np.float32), rounding(sums, unit))
    for point in variant.packs:
        record = next(records[layer.names[0]] for layer in variant.layers if layer.pack == point.name)
        words = forced_bits(point, variant, records)
        values, care = binarized[point.name].x, None
        if values.size == record.x.size:
            near = np.abs(values) <= rounding(values, unit)
            care = _care(rows_of(near.reshape(record.x.shape), record), point.levels)
        known[point.read] = known[point.forced] = Expected(words, 0.0, care)
        if point.plain:
            known[point.condition] = Expected(values, rounding(values, unit))
    for floats in variant.floats:
        values = binarized[floats.name].x
        levels = bits.binarize(values, binarized[floats.name].levels).astype(np.float32)
        known[floats.read] = known[floats.forced] = Expected(levels, 0.0, np.abs(values) > rounding(values, unit))
    return known


@dataclass(frozen=True)
class Reference:
    """Every tensor of the teacher-forced file.

    Attributes:
        subject: That file.
        known: Tensor name -> what the recording has, else what the mended file makes of what it reads.
        computed: Tensor name -> what the mended file makes of `known`.
        anchored: The names that come from the recording.
    """

    subject: Subject
    known: dict[str, Expected]
    computed: dict[str, Expected]
    anchored: frozenset[str]

    def wanted(self, name: str) -> Expected:
        """What the node that makes a tensor should make of what it is given.

        The bits of a value that is given, and is the very one that PyTorch binarises, have no rounding to excuse them.
        """
        given = any(point.read == name and point.plain for point in self.subject.packs)
        exact = given and self.computed[name].care is None
        return replace(self.known[name], care=None) if exact else self.known[name]

    def explained(self, name: str) -> bool:
        """Whether the mended file, given what its node reads, arrives at what the recording has."""
        return not self.wanted(name).differing(self.computed[name].values).any()


def reference_of(model: onnx.ModelProto, feeds: Mapping[str, NDArray[Any]], recording: Recording) -> Reference:
    """Computes every tensor of `model`, teacher-forced, node by node.

    Args:
        model: The deployed file.
        feeds: Input name -> array, as recorded.
        recording: What the PyTorch network did with them.
    """
    forced, mended = teacher_forced(model), teacher_forced(mend(model, recording))
    accumulators = {layer.accumulator: f"{'+'.join(layer.names)}, its accumulator" for layer in forced.layers}
    subject = Subject(forced.model, mended.model, mended.packs, accumulators)
    fixed = anchors(mended, recording)
    known = {name: Expected(array) for name, array in feeds.items()}
    known |= {value.name: fixed[value.name] for value in mended.model.graph.input if value.name in fixed}
    return _followed(subject, known, fixed)


def plain_reference(model: onnx.ModelProto, feeds: Mapping[str, NDArray[Any]]) -> Reference:
    """The same where no PyTorch network has a say: what the file itself says of every tensor."""
    return _followed(Subject(model, model, ()), {name: Expected(array) for name, array in feeds.items()}, {})


def _followed(subject: Subject, known: dict[str, Expected], fixed: Mapping[str, Expected]) -> Reference:
    """Goes through the nodes, each given what is known by then. fixed: the anchors."""
    computed: dict[str, Expected] = {}
    for index, node in enumerate(subject.mended.graph.node):
        inputs = {name: known[name].values for name in node.input if name in known}
        for name, made in subject.compute([index], inputs, [name for name in node.output if name]).items():
            computed[name] = made
            there = fixed.get(name)
            fits = there is not None and there.values.size == made.values.size
            known[name] = _as(there, made.values) if there is not None and fits else made
    anchored = frozenset(name for name in fixed if name in known and known[name] is not computed.get(name))
    return Reference(subject, known, computed, anchored)


def _as(expected: Expected, like: NDArray[Any]) -> Expected:
    """In the shape of the file's tensor, and in its float type."""
    care = None if expected.care is None else expected.care.reshape(like.shape)
    with np.errstate(over="ignore"):
        values = expected.values.reshape(like.shape).astype(like.dtype)
    return Expected(values, expected.tolerance, care)


def _away_from_bounds(point: PackPoint, condition: NDArray[Any], unit_roundoff: float) -> NDArray[np.int32] | None:
    """The bits that count of what is cut from `condition`: [N, C, *spatial]; None for all."""
    if np.array_equal(condition, np.rint(condition)) and point.condition.endswith(".accumulator"):
        return None  # an integer is never near
    wide = np.moveaxis(condition.astype(np.float64), 1, -1)
    near = np.zeros(wide.shape, np.bool_)
    for bound in point.bounds if point.bounds is not None else (point.threshold,):
        with np.errstate(invalid="ignore"):
            near |= np.abs(wide - bound.astype(np.float64)) <= rounding(condition, unit_roundoff)
    return _care(near, point.levels)


def _care(near: NDArray[np.bool_], levels: Levels) -> NDArray[np.int32]:
    """The complement of `near`, packed; the unused high bits count. near: [..., C] -> [..., words]."""
    return ~np.concatenate([bits.pack_bits(near)] * levels.planes, axis=-1)
