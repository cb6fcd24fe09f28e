"""An engine on the GPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bnn_deploy.errors import CheckFailed, InputRefused
from bnn_deploy.gpu import Gpu, open_gpu
from bnn_deploy.native import TENSORRT_PLUGIN
from bnn_deploy.tensorrt.metadata import EngineMetadata, Installation, check_fits, differences, read_engine
from bnn_deploy.tensorrt.plugin import VERSION, load_plugin
from bnn_deploy.tensorrt.sdk import cuda_version, load_sdk, logger, said, title

Shape = tuple[int, ...]

# By name: what a value of the enumeration is, versions of TensorRT may see differently.
_DTYPES: dict[str, np.dtype[Any]] = {
    "FLOAT": np.dtype(np.float32),
    "HALF": np.dtype(np.float16),
    "INT64": np.dtype(np.int64),
    "INT32": np.dtype(np.int32),
    "INT8": np.dtype(np.int8),
    "UINT8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}


class LoadedEngine:
    """An engine that TensorRT has deserialized. Contexts made of it share its weights.

    Args:
        plan: What `build_serialized_engine` returned.
        gpu: Where; the GPU there is, by default.
        plugin: The library of our plugins, where the plan has layers of them and not the library itself.
        host_code: Whether a plan may bring libraries of its own, and TensorRT run them. A plan is a program in any
            case: load those alone that you or somebody you trust has built.

    Attributes:
        gpu: Where it is.
        sdk: What loaded it.
        engine: An `ICudaEngine`.
        inputs: Input name -> shape; None where a size is free.
        outputs: Names of the outputs, in order.

    Raises:
        InputRefused: There is no GPU, no TensorRT, or the plugin is no library of ours.
        CheckFailed: TensorRT does not deserialize the plan; with its own message.
    """

    def __init__(
        self, plan: bytes, gpu: Gpu | None = None, *, plugin: Path | None = None, host_code: bool = False
    ) -> None:
        self.gpu = gpu if gpu is not None else open_gpu()
        self.sdk = load_sdk()
        if plugin is not None:
            load_plugin(plugin)
        log = logger(self.sdk)
        log.take_errors()
        self._runtime = self.sdk.Runtime(log)
        if host_code:
            self._runtime.engine_host_code_allowed = True
        self.engine = self._runtime.deserialize_cuda_engine(plan)
        if self.engine is None:
            raise CheckFailed(f"{title(self.sdk)} does not load the engine: {said(log.take_errors())}")
        self.inputs: dict[str, tuple[int | None, ...]] = {
            name: tuple(size if size >= 0 else None for size in self.engine.get_tensor_shape(name))
            for name in self._names(self.sdk.TensorIOMode.INPUT)
        }
        self.outputs = self._names(self.sdk.TensorIOMode.OUTPUT)

    @classmethod
    def from_file(cls, path: Path, gpu: Gpu | None = None) -> LoadedEngine:
        """The engine of a file that `build_engine` wrote.

        Raises:
            InputRefused: The file is damaged, was built for another GPU or another version, or there is no GPU.
            CheckFailed: TensorRT does not deserialize it.
        """
        plan, metadata = read_engine(path)
        gpu = gpu if gpu is not None else open_gpu()
        here = installation(gpu)
        check_fits(path, metadata, here)
        try:
            return cls(plan, gpu, plugin=_plugin_for(metadata), host_code=_has_host_code(metadata))
        except CheckFailed as error:
            reason = differences(metadata, here)
            raise CheckFailed(f"{path}: {error}{f'; {reason}' if reason else ''}") from error

    def dtype(self, name: str) -> np.dtype[Any]:
        """The type of an input or output."""
        return _DTYPES[self.engine.get_tensor_dtype(name).name]

    def profile_shapes(self, profile: int) -> dict[str, tuple[Shape, Shape, Shape]]:
        """Name of each input with a free size -> its smallest, optimal and largest shape in a profile."""
        found = {}
        for name, sizes in self.inputs.items():
            if None in sizes:
                smallest, optimal, largest = self.engine.get_tensor_profile_shape(name, profile)
                found[name] = (tuple(smallest), tuple(optimal), tuple(largest))
        return found

    def profile_for(self, shapes: Mapping[str, Shape]) -> int:
        """The first profile that has these shapes.

        Raises:
            InputRefused: None has.
        """
        profiles = [self.profile_shapes(index) for index in range(self.engine.num_optimization_profiles)]
        for index, profile in enumerate(profiles):
            if all(_is_within(shapes[name], limits) for name, limits in profile.items()):
                return index
        name = next(name for name in profiles[0] if any(not _is_within(shapes[name], each[name]) for each in profiles))
        wanted = " or ".join(f"{_text(each[name][0])} to {_text(each[name][2])}" for each in profiles)
        fix = "build an engine with a profile that has it"
        raise InputRefused(f"input {name!r}", f"shape {_text(shapes[name])}", f"{wanted}, the engine's profile", fix)

    def _names(self, mode: Any) -> list[str]:
        names = [self.engine.get_tensor_name(index) for index in range(self.engine.num_io_tensors)]
        return [name for name in names if self.engine.get_tensor_mode(name) == mode]


def installation(gpu: Gpu | None) -> Installation:
    """What is here. gpu: Where engines run, if there is one."""
    sdk = load_sdk()
    capability = gpu.compute_capability if gpu is not None else ""
    return Installation(sdk.__name__, sdk.__version__, cuda_version(sdk), VERSION, capability)


def _plugin_for(metadata: EngineMetadata) -> Path | None:
    return TENSORRT_PLUGIN.path() if metadata.plugin_version and not metadata.plugin_embedded else None


def _has_host_code(metadata: EngineMetadata) -> bool:
    return metadata.version_compatible or metadata.plugin_embedded


def _is_within(shape: Shape, limits: tuple[Shape, Shape, Shape]) -> bool:
    smallest, _, largest = limits
    return all(low <= size <= high for low, size, high in zip(smallest, shape, largest, strict=True))


def _text(shape: Shape) -> str:
    return "x".join(map(str, shape))
