"""Builds a TensorRT engine of an exported file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import onnx

from bnn_deploy.errors import CheckFailed, InputRefused
from bnn_deploy.tensorrt.network import ParsedNetwork, parse
from bnn_deploy.tensorrt.profiles import Profile, free_axes, input_shapes
from bnn_deploy.tensorrt.sdk import load_sdk, logger, said, title

Progress = Callable[[str, int, int], None]
"""Called with a phase of the build, the steps done in it, and how many it has."""


def build_serialized_engine(
    model: onnx.ModelProto,
    *,
    profiles: Sequence[Profile] = (),
    workspace_bytes: int | None = None,
    progress: Progress | None = None,
) -> bytes:
    """Parses and builds.

    Float32 is computed as such: TF32, which TensorRT allows itself otherwise, rounds factors to 11 bits.

    Args:
        model: An exported file. Its precision is that of the engine.
        profiles: One or more, each with a range for every free axis; none where no axis is free.
        workspace_bytes: How much memory a kernel may use beside its inputs and outputs; all there is where None.
        progress: Told how far the build is. What it raises, Ctrl-C included, ends the build and is raised here.

    Returns:
        The engine, as TensorRT's runtime of the same version deserializes it.

    Raises:
        InputRefused: TensorRT cannot take a node, the profiles name other axes than those that are free, or the
            workspace is no size.
        CheckFailed: The build failed; with TensorRT's own message.
    """
    if workspace_bytes is not None and workspace_bytes < 1:
        raise InputRefused("the workspace", f"{workspace_bytes} bytes", "a positive number of bytes")
    shapes = _shapes_of_profiles(model, profiles)
    sdk = load_sdk()
    parsed = parse(model)
    config = parsed.builder.create_builder_config()
    if hasattr(sdk.BuilderFlag, "TF32"):
        config.clear_flag(sdk.BuilderFlag.TF32)
    if workspace_bytes is not None:
        config.set_memory_pool_limit(sdk.MemoryPoolType.WORKSPACE, workspace_bytes)
    for number, inputs in enumerate(shapes):
        _add_profile(parsed.builder, config, number, inputs)
    return _build(sdk, parsed, config, progress)


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


def _build(sdk: Any, parsed: ParsedNetwork, config: Any, progress: Progress | None) -> bytes:
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
        raise CheckFailed(f"{title(sdk)} could not build the engine: {said(log.take_errors())}")
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
