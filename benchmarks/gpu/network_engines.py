"""The same network in TensorRT: an engine of the deployed file with our plugin, one of its float twin in float16, and
one of the twin in int8.

Whether TensorRT takes the GPU is asked in a process of its own, `measure_networks.py --probe`: it may end the process.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import onnx
from slots import Array
from torch_peers import DEVICE
from turns import Contender

from bnn_deploy.quantisation import quantise
from bnn_deploy.runners.tensorrt import profile_for
from bnn_deploy.tensorrt.engine import build_serialized_engine
from bnn_deploy.tensorrt.execution import Execution
from bnn_deploy.tensorrt.loaded import LoadedEngine
from bnn_deploy.tensorrt.sdk import load_sdk, title

CALIBRATION_RUNS = 2
WARM_UP = 2  # runs: the first sets up, the second is captured


class EngineRecording:
    """So many launches of the CUDA graph of one run, one behind the other, by PyTorch's events."""

    def __init__(self, run: Callable[[], Any], runs: int) -> None:
        import torch

        self._run, self._runs = run, runs
        for _ in range(WARM_UP):
            run()
        torch.cuda.synchronize()
        self._begin, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def milliseconds(self) -> float:
        """See `turns.Recording`. While the run that is not timed goes on, the host puts the others behind it."""
        self._run()
        self._begin.record()
        for _ in range(self._runs):
            self._run()
        self._end.record()
        self._end.synchronize()
        return float(self._begin.elapsed_time(self._end))

    def close(self) -> None:
        """See `turns.Recording`."""


def execution_of(model: onnx.ModelProto, feeds: Mapping[str, Array], plugin: Path | None, *, graph: bool) -> Execution:
    """An engine for the shapes of `feeds`, ready to run. plugin: The library, where the network has nodes of ours.

    Raises:
        BnnDeployError: TensorRT does not build or load it; with its own words.
    """
    profile = profile_for(model, {name: array.shape for name, array in feeds.items()})
    built = build_serialized_engine(model, profiles=[profile] if profile else [], plugin=plugin)
    return Execution(LoadedEngine(built.plan, plugin=plugin), graph=graph)


class EngineContender:
    """A network as an engine, in a CUDA graph, on device memory. Arguments: see `execution_of`."""

    def __init__(self, model: onnx.ModelProto, feeds: Mapping[str, Array], plugin: Path | None) -> None:
        import torch

        self._execution = execution_of(model, feeds, plugin, graph=True)
        self._feeds = {name: torch.from_numpy(array).to(DEVICE) for name, array in feeds.items()}

    def run(self) -> dict[str, Any]:
        """Enqueues a run; the outputs, on the GPU."""
        return dict(self._execution.infer_device(self._feeds))

    def outputs(self) -> dict[str, Array]:
        """Of a run, on the host."""
        import torch

        return {name: torch.as_tensor(array, device=DEVICE).cpu().numpy() for name, array in self.run().items()}

    def contender(self) -> Contender:
        """To be timed."""
        return Contender(lambda runs: EngineRecording(self.run, runs), slots=1)

    def close(self) -> None:
        """Frees the context."""
        self._execution.close()


def int8_twin(twin: onnx.ModelProto, feeds: Mapping[str, Array]) -> onnx.ModelProto:
    """The float twin with 8-bit weights and activations, symmetric, as TensorRT has them. feeds: for calibration."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        onnx.save(twin, source)
        quantise(source, target, [feeds] * CALIBRATION_RUNS, symmetric=True)
        return onnx.load(target)


def probe(model: onnx.ModelProto, feeds: Mapping[str, Array], plugin: Path) -> dict[str, Any]:
    """One run of a network of ours as an engine: which TensorRT it was, and the shapes of the outputs."""
    with execution_of(model, feeds, plugin, graph=False) as execution:
        outputs = execution.infer(feeds)
    return {"title": title(load_sdk()), "outputs": {name: list(array.shape) for name, array in outputs.items()}}
