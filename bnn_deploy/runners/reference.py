"""The deployed file, computed the slow way: integers for our ops, ONNX's own reference evaluator for the rest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from bnn_deploy.errors import InputRefused
from bnn_deploy.evaluator import reference_evaluator
from bnn_deploy.runners.base import Arrays, RunnerBase, check_feeds


class ReferenceRunner(RunnerBase):
    """Runs an ONNX model with integer accumulators and float64 epilogues, rounded to float32 at each layer's end.

    Args:
        model: A file, or a model in memory.

    Raises:
        InputRefused: The evaluator does not know an op of the model; its own words follow.
    """

    name = "reference"

    def __init__(self, model: str | Path | onnx.ModelProto) -> None:
        where = "the model" if isinstance(model, onnx.ModelProto) else str(model)
        if not isinstance(model, onnx.ModelProto):
            if not Path(model).is_file():
                raise InputRefused(where, "no such file", "an ONNX file")
            model = onnx.load(str(model))
        try:
            self._evaluator = reference_evaluator(model)
        except Exception as error:  # NotImplementedError, RuntimeError, protobuf's own
            raise InputRefused(where, f"ONNX's reference evaluator does not load it: {error}") from error
        self.inputs = {value.name: _shape(value) for value in model.graph.input}
        self.outputs = [value.name for value in model.graph.output]

    def infer(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        check_feeds(self.name, feeds, self.inputs)
        results = self._evaluator.run(self.outputs, dict(feeds))
        return dict(zip(self.outputs, results, strict=True))


def _shape(value: onnx.ValueInfoProto) -> tuple[Any, ...]:
    return tuple(size.dim_value if size.HasField("dim_value") else None for size in value.type.tensor_type.shape.dim)
