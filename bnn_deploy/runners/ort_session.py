"""A session of ONNX Runtime as a runner: what all that run on it share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from bnn_deploy.errors import InputRefused
from bnn_deploy.runners.base import Arrays, RunnerBase, check_feeds


class OrtSessionRunner(RunnerBase):
    """Runs an ONNX model on ONNX Runtime.

    Args:
        model: A file, or a model in memory.
        threads: Threads within an operator; None leaves the choice to ONNX Runtime.
        optimise: False runs the graph as written, True lets ONNX Runtime rewrite it, as users do.
        library: A custom-op library to load into the session.
        providers: Execution providers, by name or with their options, in order of preference.

    Raises:
        InputRefused: ONNX Runtime does not load the model; its own words follow.
    """

    name = "onnxruntime"

    def __init__(
        self,
        model: str | Path | onnx.ModelProto,
        *,
        threads: int | None = None,
        optimise: bool = True,
        library: Path | None = None,
        providers: Sequence[str | tuple[str, dict[str, str]]] = ("CPUExecutionProvider",),
    ) -> None:
        where = "the model" if isinstance(model, onnx.ModelProto) else str(model)
        source = model.SerializeToString() if isinstance(model, onnx.ModelProto) else str(model)
        if isinstance(source, str) and not Path(source).is_file():
            raise InputRefused(where, "no such file", "an ONNX file")
        options = _session_options(threads, optimise, library)
        try:
            self._session = onnxruntime.InferenceSession(source, options, providers=list(providers))
        except Exception as error:  # ONNX Runtime raises a dozen unrelated types
            raise InputRefused(where, f"ONNX Runtime {onnxruntime.__version__} does not load it: {error}") from error
        self.inputs: dict[str, tuple[Any, ...]] = {
            value.name: tuple(value.shape) for value in self._session.get_inputs()
        }
        self.outputs: list[str] = [value.name for value in self._session.get_outputs()]

    def infer(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        check_feeds(self.name, feeds, self.inputs)
        try:
            results = self._session.run(self.outputs, dict(feeds))
        except Exception as error:
            raise InputRefused(self.name, f"ONNX Runtime failed: {error}") from error
        return {name: np.asarray(result) for name, result in zip(self.outputs, results, strict=True)}


def _session_options(threads: int | None, optimise: bool, library: Path | None) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if threads is not None:
        options.intra_op_num_threads = threads
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if library is not None:
        try:
            options.register_custom_ops_library(str(library))
        except Exception as error:  # a file that is no library, or one built for another system
            raise InputRefused(
                str(library),
                f"ONNX Runtime {onnxruntime.__version__} does not load it: {error}",
                "the library that this version of bnn_deploy builds",
                "make plugins",
            ) from error
    return options
