"""TensorRT: an engine that was built before, or one that is built of an exported file when it first runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from bnn_deploy.errors import InputRefused
from bnn_deploy.runners.base import Arrays, RunnerBase, check_feeds
from bnn_deploy.tensorrt.device import open_gpu
from bnn_deploy.tensorrt.engine import build_serialized_engine
from bnn_deploy.tensorrt.execution import Execution, LoadedEngine
from bnn_deploy.tensorrt.plugin import plugin_path
from bnn_deploy.tensorrt.profiles import Profile, SizeRange, free_axes

ENGINE_SUFFIX = ".engine"


class TensorRTRunner(RunnerBase):
    """Runs a model on the GPU.

    Args:
        model: An `.engine` file as `bnn-deploy engine` writes it; or an ONNX file or model, of which an engine is built
            for the shapes of the first feeds, and again where later ones are of other shapes.
        graph: Whether to run as a CUDA graph.

    Raises:
        InputRefused: There is no GPU, no TensorRT, no plugin, or the engine does not fit this machine.
    """

    name = "tensorrt"

    def __init__(self, model: str | Path | onnx.ModelProto, *, graph: bool = False) -> None:
        self._graph = graph
        self._gpu = open_gpu()
        self._model: onnx.ModelProto | None = None
        self._execution: Execution | None = None
        self._shapes: dict[str, tuple[int, ...]] = {}
        if isinstance(model, onnx.ModelProto):
            self._model = model
        elif Path(model).suffix == ENGINE_SUFFIX:
            self._execution = Execution(LoadedEngine.from_file(Path(model)), graph=graph)
        elif Path(model).is_file():
            self._model = onnx.load(str(model))
        else:
            raise InputRefused(str(model), "no such file", "an engine, or an ONNX file")

    def infer(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        if self._model is not None:
            self._build_for(self._model, feeds)
        assert self._execution is not None
        return self._execution.infer(feeds)

    def _build_for(self, model: onnx.ModelProto, feeds: Mapping[str, NDArray[Any]]) -> None:
        shapes = {name: feed.shape for name, feed in feeds.items()}
        if shapes == self._shapes:
            return
        check_feeds(self.name, feeds, {value.name: _shape(value) for value in model.graph.input})
        profile = profile_for(model, shapes)
        built = build_serialized_engine(model, profiles=[profile] if profile else [], plugin=plugin_path())
        self._execution = Execution(LoadedEngine(built.plan, self._gpu), graph=self._graph)
        self._shapes = shapes


def profile_for(model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> Profile:
    """The profile that has these shapes and no others.

    Raises:
        InputRefused: An axis that two inputs share has a size of its own in each.
    """
    profile: dict[str, SizeRange] = {}
    inputs = {value.name: _shape(value) for value in model.graph.input}
    for axis, names in free_axes(model).items():
        sizes = {shapes[name][index] for name in names for index, found in enumerate(inputs[name]) if found == axis}
        if len(sizes) != 1:
            raise InputRefused(f"axis `{axis}`", f"sizes {sorted(sizes)}", f"one size in {' and '.join(names)}")
        profile[axis] = SizeRange(*(sizes.pop(),) * 3)
    return profile


def _shape(value: onnx.ValueInfoProto) -> tuple[int | str, ...]:
    """As `free_axes` names the axes."""
    return tuple(
        axis.dim_value if axis.HasField("dim_value") else axis.dim_param or f"{value.name}[{index}]"
        for index, axis in enumerate(value.type.tensor_type.shape.dim)
    )
