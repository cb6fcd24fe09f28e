"""Running a part of a file on a runner and judging what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx

from bnn_deploy.parity.layerwise import RunnerFactory
from bnn_deploy.parity.reduction.delta import Budget
from bnn_deploy.parity.reduction.oracle import Expected, Subject
from bnn_deploy.parity.reduction.subgraph import extract
from bnn_deploy.runners.base import Arrays

PASSES, DIFFERS, OTHER_SHAPE, RAISES = "", "differs", "has another shape", "raises"


@dataclass(frozen=True)
class Part:
    """Some nodes of a file with inputs, and what they should make of them.

    Attributes:
        subject: The file.
        chosen: Indices of its nodes.
        inputs: Every tensor that they read and do not make.
        expected: Their outputs.
        computable: Whether the mended file computes what is expected of other inputs too.
        kind: How it fails; a smaller part must fail in the same way.
    """

    subject: Subject
    chosen: tuple[int, ...]
    inputs: Arrays
    expected: Mapping[str, Expected]
    computable: bool = True
    kind: str = PASSES

    @property
    def nodes(self) -> list[onnx.NodeProto]:
        """In the order of the file."""
        return [self.subject.file.graph.node[index] for index in self.chosen]

    @property
    def names(self) -> list[str]:
        """Of the nodes."""
        return [self.subject.name_of(index) for index in self.chosen]

    @property
    def model(self) -> onnx.ModelProto:
        """The nodes as a model of their own."""
        return self.yielding(list(self.expected))

    def yielding(self, outputs: list[str]) -> onnx.ModelProto:
        """The same with other outputs."""
        values = {**self.inputs, **{name: expected.values for name, expected in self.expected.items()}}
        inside = self.subject.compute(self.chosen, self.inputs, [name for name in outputs if name not in values])
        return extract(
            self.subject.file,
            self.chosen,
            values | {name: expected.values for name, expected in inside.items()},
            outputs=outputs,
        )

    def given(self, inputs: Arrays) -> Part:
        """The same nodes with other inputs; raises whatever the mended file does where they do not fit."""
        return replace(self, inputs=inputs, expected=self.subject.compute(self.chosen, inputs, list(self.expected)))


def outcome(found: Arrays | Exception, expected: Mapping[str, Expected]) -> str:
    """`PASSES`, `DIFFERS`, `OTHER_SHAPE` or `RAISES`."""
    if isinstance(found, Exception):
        return RAISES
    if any(name in found and found[name].shape != wanted.values.shape for name, wanted in expected.items()):
        return OTHER_SHAPE
    return DIFFERS if any(wanted.differing(found[name]).any() for name, wanted in expected.items()) else PASSES


class Trial:
    """A runner, and how often it may still be asked."""

    def __init__(self, factory: RunnerFactory, budget: Budget) -> None:
        self._factory, self.budget = factory, budget

    def run(self, model: onnx.ModelProto, feeds: Arrays) -> Arrays | Exception:
        """What the runner makes of it; a refusal or a crash that Python survives is an answer too."""
        self.budget.spent += 1
        try:
            with self._factory(model) as runner:
                return runner.infer(feeds)
        except Exception as error:
            return error

    def judge(self, part: Part) -> str:
        """How `part` fails, `PASSES` where it does not."""
        found = self.run(part.model, part.inputs)
        kind = outcome(found, part.expected)
        if kind == DIFFERS and not isinstance(found, Exception) and self._are_ties(part, found):
            return PASSES
        return kind

    def fails(self, part: Part, kind: str) -> bool:
        """Whether `part` fails in the way in which the whole did; False when no runs are left."""
        return not self.budget.exhausted and self.judge(part) == kind

    def confirmed(self, part: Part) -> Part | None:
        """`part` with how it fails; None where it does not."""
        kind = self.judge(part)
        return None if kind == PASSES else replace(part, kind=kind)

    def _are_ties(self, part: Part, found: Arrays) -> bool:
        """Whether ties inside explain every difference.

        A value within rounding of its threshold may become either bit, and everything behind that bit follows. The
        bits inside are looked at in a second run; samples with a tie are not judged.
        """
        made = {name for node in part.nodes for name in node.output}
        inside = [
            point.written
            for point in part.subject.packs
            if point.written in made and point.written not in part.expected
        ]
        if not inside:
            return False
        seen = self.run(part.yielding([*part.expected, *inside]), part.inputs)
        if isinstance(seen, Exception):
            return False
        expected = part.subject.compute(part.chosen, part.inputs, inside)
        if outcome(seen, expected) != PASSES:
            return False
        tied = np.zeros(len(next(iter(expected.values())).values), np.bool_)
        for name, wanted in expected.items():
            apart = replace(wanted, care=None).differing(seen[name])
            tied |= apart.reshape(len(apart), -1).any(axis=1)
        apart_samples = np.zeros_like(tied)
        for name, wanted in part.expected.items():
            apart = wanted.differing(found[name])
            if apart.shape[:1] != tied.shape:
                return bool(tied.any())
            apart_samples |= apart.reshape(len(apart), -1).any(axis=1)
        return not (apart_samples & ~tied).any()
