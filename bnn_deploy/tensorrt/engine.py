"""Builds a TensorRT engine of an exported file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from bnn_deploy.errors import CheckFailed, InputRefused
from bnn_deploy.files import write_atomically
from bnn_deploy.tensorrt.network import ParsedNetwork, parse
from bnn_deploy.tensorrt.plugin import take_plugin_error
from bnn_deploy.tensorrt.profiles import Profile, free_axes, input_shapes
from bnn_deploy.tensorrt.sdk import load_sdk, logger, said, title

Progress = Callable[[str, int, int], None]
"""Called with a phase of the build, the steps done in it, and how many it has."""


@dataclass(frozen=True)
class BuildOptions:
    """How an engine is built.

    Attributes:
        workspace_bytes: How much memory a kernel may use beside its inputs and outputs; all there is where None.
        timing_cache: A file of timings, read where it is there and written after the build.
        version_compatible: Whether later versions of TensorRT may load the engine.
        embed_plugin: Whether the plugin's library goes into the engine, which then runs where there is none.
    """

    workspace_bytes: int | None = None
    timing_cache: Path | None = None
    version_compatible: bool = False
    embed_plugin: bool = False


@dataclass(frozen=True)
class BuiltEngine:
    """What a build gives.

    Attributes:
        plan: The engine, as TensorRT's runtime of the same version deserializes it.
        network: What it was built of.
    """

    plan: bytes
    network: ParsedNetwork


def build_serialized_engine(
    model: onnx.ModelProto,
    *,
    profiles: Sequence[Profile] = (),
    plugin: Path | None = None,
    options: BuildOptions | None = None,
    progress: Progress | None = None,
) -> BuiltEngine:
    """Parses and builds.

    Float32 is computed as such: TF32, which TensorRT allows itself otherwise, rounds factors to 11 bits.

    Args:
        model: An exported file. Its precision is that of the engine.
        profiles: One or more, each with a range for every free axis; none where no axis is free.
        plugin: The library of our plugins; without it 1-bit layers are what their function bodies say.
        options: See there.
        progress: Told how far the build is. What it raises, Ctrl-C included, ends the build and is raised here.

    Raises:
        InputRefused: TensorRT or the plugin cannot take a node, the profiles do not fit the model, or this version of
            TensorRT does not have an option.
        CheckFailed: The build failed; with TensorRT's own message.
    """
    options = options or BuildOptions()
    shapes = _shapes_of_profiles(model, profiles)
    sdk = load_sdk()
    parsed = parse(model, plugin)
    config = parsed.builder.create_builder_config()
    if hasattr(sdk.BuilderFlag, "TF32"):
        config.clear_flag(sdk.BuilderFlag.TF32)
    cache = _configure(sdk, config, options, plugin)
    for number, inputs in enumerate(shapes):
        _add_profile(parsed.builder, config, number, inputs)
    plan = _build(sdk, parsed, config, plugin, progress)
    if cache is not None and options.timing_cache is not None:
        write_atomically(options.timing_cache, bytes(cache.serialize()))
    return BuiltEngine(plan, parsed)


def _configure(sdk: Any, config: Any, options: BuildOptions, plugin: Path | None) -> Any:
    """Sets the options; returns the timing cache, or None."""
    if options.workspace_bytes is not None:
        config.set_memory_pool_limit(sdk.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    if options.version_compatible or options.embed_plugin:
        if not hasattr(sdk.BuilderFlag, "VERSION_COMPATIBLE"):
            raise InputRefused("--version-compatible", f"{title(sdk)} builds no such engines", fix="leave it out")
        config.set_flag(sdk.BuilderFlag.VERSION_COMPATIBLE)
    if options.embed_plugin:
        if plugin is None or not hasattr(config, "plugins_to_serialize"):
            found = "there is no plugin" if plugin is None else f"{title(sdk)} puts no plugin into an engine"
            raise InputRefused("--embed-plugin", found, fix="leave it out")
        config.plugins_to_serialize = [str(plugin)]
    if options.timing_cache is None:
        return None
    if not hasattr(config, "create_timing_cache"):
        raise InputRefused("--timing-cache", f"{title(sdk)} keeps no timings", fix="leave it out")
    file = options.timing_cache
    cache = config.create_timing_cache(file.read_bytes() if file.is_file() else b"")
    if cache is None or not config.set_timing_cache(cache, False):
        raise InputRefused(f"--timing-cache {file}", "of another GPU or another version", fix="remove the file")
    return cache


def _shapes_of_profiles(model: onnx.ModelProto, profiles: Sequence[Profile]) -> list[Any]:
    """Checked before TensorRT is asked: its own messages name neither axis nor remedy."""
    if not profiles and free_axes(model):
        input_shapes(model, {})  # raises, with the name of the axis
    return [input_shapes(model, profile) for profile in profiles]


def _add_profile(builder: Any, config: Any, number: int, inputs: dict[str, Any]) -> None:
    profile = builder.create_optimization_profile()
    for name, shapes in inputs.items():
        profile.set_shape(name, shapes.minimum, shapes.optimum, shapes.maximum)
    if config.add_optimization_profile(profile) < 0:
        raise InputRefused(f"profile {number}", "TensorRT does not take it", "sizes that the model can have")


def _build(sdk: Any, parsed: ParsedNetwork, config: Any, plugin: Path | None, progress: Progress | None) -> bytes:
    log = logger(sdk)
    log.take_errors()
    monitor = None
    if hasattr(config, "progress_monitor"):
        monitor = make_monitor(sdk, progress or (lambda phase, done, steps: None))
        config.progress_monitor = monitor
    plan = parsed.builder.build_serialized_network(parsed.network, config)
    if monitor is not None and monitor.error is not None:
        raise monitor.error
    if plan is None:
        refusal = take_plugin_error(plugin) if plugin is not None else ""
        reason = f"the plugin does not take a layer: {refusal}" if refusal else said(log.take_errors())
        raise CheckFailed(f"{title(sdk)} could not build the engine: {reason}")
    return bytes(plan)


def make_monitor(sdk: Any, progress: Progress) -> Any:
    """An `IProgressMonitor` that tells `progress`; `error` is what that raised, which ends the build."""

    class Monitor(sdk.IProgressMonitor):
        def __init__(self) -> None:
            super().__init__()
            self.steps: dict[str, int] = {}
            self.error: BaseException | None = None

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.steps[phase_name] = num_steps
            self._tell(phase_name, 0)

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._tell(phase_name, step + 1)
            return self.error is None

        def phase_finish(self, phase_name: str) -> None:
            if self.error is None:
                self._tell(phase_name, self.steps.get(phase_name, 0))

        def _tell(self, phase_name: str, done: int) -> None:
            # An exception must not travel through TensorRT's frames.
            try:
                progress(phase_name, done, self.steps.get(phase_name, 0))
            except BaseException as error:
                self.error = self.error or error

    return Monitor()
