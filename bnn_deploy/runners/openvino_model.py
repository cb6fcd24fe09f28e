"""A model compiled by OpenVINO for the CPU, as a runner: what the float and the 8-bit runner share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from bnn_deploy.errors import InputRefused
from bnn_deploy.runners.base import Arrays, RunnerBase, check_feeds

_OPENVINO: Any = openvino  # its names are made when it is imported, unknown to a type checker


class OpenVinoModelRunner(RunnerBase):
    """Runs an ONNX file on OpenVINO's CPU plugin, one request at a time.

    Args:
        path: The file, of standard ops alone.
        threads: Threads within a request; None leaves the choice to OpenVINO.
        shapes: Input name -> shape to compile for; None leaves free sizes free, which OpenVINO runs slower.

    Raises:
        InputRefused: OpenVINO does not take the file; its own words follow.
    """

    name = "openvino"

    def __init__(
        self, path: str | Path, *, threads: int | None = None, shapes: Mapping[str, Sequence[int]] | None = None
    ) -> None:
        if not Path(path).is_file():
            raise InputRefused(str(path), "no such file", "an ONNX file")
        # float32 is float32: by default OpenVINO would take a shorter type where the processor has one.
        options: dict[str, Any] = {"NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
        if threads is not None:
            options["INFERENCE_NUM_THREADS"] = threads
        try:
            core = _OPENVINO.Core()
            model = core.read_model(str(path))
            if shapes is not None:
                model.reshape({name: list(shape) for name, shape in shapes.items()})
            compiled = core.compile_model(model, "CPU", options)
        except RuntimeError as error:
            found = f"OpenVINO {_OPENVINO.__version__} does not load it: {error}"
            raise InputRefused(f"{self.name}: {path}", found) from error
        self._request = compiled.create_infer_request()
        self.inputs = {
            port.any_name: tuple(size.get_length() if size.is_static else None for size in port.partial_shape)
            for port in compiled.inputs
        }
        self.outputs: list[str] = [port.any_name for port in compiled.outputs]

    def infer(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        check_feeds(self.name, feeds, self.inputs)
        try:
            results = self._request.infer(dict(feeds), share_inputs=True)
        except RuntimeError as error:
            raise InputRefused(self.name, f"OpenVINO failed: {error}") from error
        return {name: np.asarray(result) for name, result in zip(self.outputs, results.values(), strict=True)}
