"""TensorRT: an engine that was built before, or one that is built of an exported file when it first runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from bnn_deploy.errors import InputRefused
from bnn_deploy.files import is_engine
from bnn_deploy.gpu import DeviceArray, open_gpu
from bnn_deploy.inspection import load_model
from bnn_deploy.native import TENSORRT_PLUGIN
from bnn_deploy.runners.base import Arrays, RunnerBase, check_feeds
from bnn_deploy.tensorrt.engine import build_serialized_engine
from bnn_deploy.tensorrt.execution import Execution
from bnn_deploy.tensorrt.loaded import LoadedEngine
from bnn_deploy.tensorrt.profiles import Profile, SizeRange, free_axes, input_axes

Shapes = Mapping[str, tuple[int, ...]]


class TensorRTRunner(RunnerBase):
    """Runs a model on the GPU, one inference at a time.

    For several at once on one engine make an `Execution` for each thread.

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
        self._built_for: Shapes = {}
        if isinstance(model, onnx.ModelProto):
            self._model = model
        elif is_engine(model):
            self._execution = Execution(LoadedEngine.from_file(Path(model), self._gpu), graph=graph)
        else:
            self._model = load_model(model)

    def __exit__(self, *_: object) -> None:
        self._close()

    def infer(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        return self._execution_for(feeds).infer(feeds)

    def infer_device(self, feeds: Mapping[str, Any]) -> dict[str, DeviceArray]:
        """Runs once on what is on the GPU already, such as PyTorch's tensors; see `Execution.infer_device`."""
        views = {name: DeviceArray.of(f"input {name!r}", feed) for name, feed in feeds.items()}
        return self._execution_for(views).infer_device(feeds)

    def _execution_for(self, feeds: Mapping[str, Any]) -> Execution:
        shapes = {name: tuple(feed.shape) for name, feed in feeds.items()}
        if self._model is not None and (self._execution is None or shapes != self._built_for):
            check_feeds(self.name, feeds, input_axes(self._model))
            self._close()
            self._execution = self._build(self._model, shapes)
            self._built_for = shapes
        if self._execution is None:
            raise InputRefused(self.name, "it is closed", "one that is not")
        return self._execution

    def _build(self, model: onnx.ModelProto, shapes: Shapes) -> Execution:
        plugin, profile = TENSORRT_PLUGIN.path(), profile_for(model, shapes)
        built = build_serialized_engine(model, profiles=[profile] if profile else [], plugin=plugin)
        return Execution(LoadedEngine(built.plan, self._gpu, plugin=plugin), graph=self._graph)

    def _close(self) -> None:
        if self._execution is not None:
            self._execution.close()
        self._execution = None


def profile_for(model: onnx.ModelProto, shapes: Shapes) -> Profile:
    """The profile that has these shapes and no others.

    Raises:
        InputRefused: An axis that two inputs share has a size of its own in each.
    """
    profile: dict[str, SizeRange] = {}
    inputs = input_axes(model)
    for axis, names in free_axes(model).items():
        sizes = {shapes[name][index] for name in names for index, found in enumerate(inputs[name]) if found == axis}
        if len(sizes) != 1:
            raise InputRefused(f"axis `{axis}`", f"sizes {sorted(sizes)}", f"one size in {' and '.join(names)}")
        profile[axis] = SizeRange(*(sizes.pop(),) * 3)
    return profile
