"""An exported file with its golden bundle, made ready to be measured: in float16, and as its float twin."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from network_work import constants_of
from node_reference import NodeReference
from onnx_ir.passes.common import LiftConstantsToInitializersPass
from slots import Array

from bnn_deploy.parity.golden.reader import read_golden
from bnn_deploy.passes.attach_functions import AttachFunctionsPass
from bnn_deploy.passes.infer_shapes import InferShapesPass
from bnn_deploy.passes.lower_precision import LowerPrecisionPass
from bnn_deploy.passes.pipeline import float_twin
from bnn_deploy.passes.split_float import SplitFloatPass


class WrongResult(Exception):
    """A contender computes something else: it is not timed."""


def in_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose float rest is float16, with the shape of every value."""
    copy = ir.from_proto(model)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(copy)
    for step in (SplitFloatPass(), InferShapesPass(), LowerPrecisionPass(), AttachFunctionsPass()):
        step(copy)
    return ir.to_proto(copy)


class Network:
    """An exported file with its golden bundle.

    Attributes:
        name: That of the folder.
        model: Its float rest in float16.
    """

    def __init__(self, folder: Path) -> None:
        bundle = read_golden(folder / "golden")
        self.name = folder.name
        self._case = next(case for case in bundle.cases if case.finite)
        self._deployed, self.model = bundle.model, in_float16(bundle.model)
        self._references: dict[int, NodeReference] = {}

    @cached_property
    def twin32(self) -> onnx.ModelProto:
        """The float twin, float32."""
        return float_twin(self._deployed)

    @cached_property
    def twin(self) -> onnx.ModelProto:
        """The float twin in float16."""
        return in_float16(self.twin32)

    def reference(self, model: onnx.ModelProto) -> NodeReference:
        """What the nodes of `model`, or of `twin`, compute: the same for every contender and batch."""
        if id(model) not in self._references:
            self._references[id(model)] = NodeReference(model, constants_of(model))
        return self._references[id(model)]

    def feeds(self, batch: int) -> dict[str, Array]:
        """The bundle's inputs again and again, until the batch is full."""
        return {name: _images(array, np.arange(batch)) for name, array in self._case.feeds.items()}

    def agreement(self, found: Mapping[str, Array], batch: int) -> float:
        """Correlation with the outputs of the bundle. found: Output name -> its first and its last image."""
        ends = np.unique([0, batch - 1])
        pairs = [(array, _images(self._case.outputs[name], ends)) for name, array in found.items()]
        if not all(np.isfinite(array).all() for array, _ in pairs):
            raise WrongResult("its outputs are not finite; not timed")
        return min(_correlation(array.astype(np.float64), wanted.astype(np.float64)) for array, wanted in pairs)


def _images(samples: Array, numbers: Array) -> Array:
    return np.ascontiguousarray(samples[numbers % len(samples)])


def _correlation(a: Array, b: Array) -> float:
    a, b = a.reshape(-1) - a.mean(), b.reshape(-1) - b.mean()
    lengths = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / lengths if lengths else float(np.array_equal(a, b))
