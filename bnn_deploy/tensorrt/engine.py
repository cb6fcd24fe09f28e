"""Builds a TensorRT engine of an exported file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from bnn_deploy.errors import CheckFailed, InputRefused
from bnn_deploy.files import write_atomically
from bnn_deploy.tensorrt.network import ParsedNetwork, parse
from bnn_deploy.tensorrt.options import BuildOptions, configure
from bnn_deploy.tensorrt.plugin import take_plugin_error
from bnn_deploy.tensorrt.profiles import InputShapes, Profile, free_axes, input_shapes
from bnn_deploy.tensorrt.progress import Progress, make_monitor
from bnn_deploy.tensorrt.sdk import load_sdk, logger, said, title
from bnn_deploy.tensorrt.smallest import check_smallest


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
    cache = configure(sdk, config, options, plugin)
    for number, inputs in enumerate(shapes):
        check_smallest(model, number, inputs, plugin)
        _add_profile(parsed.builder, config, number, inputs)
    plan = _build(sdk, parsed, config, plugin, progress)
    if cache is not None and options.timing_cache is not None:
        write_atomically(options.timing_cache, bytes(cache.serialize()))
    return BuiltEngine(plan, parsed)


def _shapes_of_profiles(model: onnx.ModelProto, profiles: Sequence[Profile]) -> list[dict[str, InputShapes]]:
    """Checked before TensorRT is asked: its own messages name neither axis nor remedy."""
    if not profiles and free_axes(model):
        input_shapes(model, {})  # raises, with the name of the axis
    return [input_shapes(model, profile) for profile in profiles]


def _add_profile(builder: Any, config: Any, number: int, inputs: dict[str, InputShapes]) -> None:
    profile = builder.create_optimization_profile()
    for name, shapes in inputs.items():
        profile.set_shape(name, shapes.minimum, shapes.optimum, shapes.maximum)
    if config.add_optimization_profile(profile) < 0:
        raise InputRefused(f"profile {number}", "TensorRT does not take it", "sizes that the model can have")


def _build(sdk: Any, parsed: ParsedNetwork, config: Any, plugin: Path | None, progress: Progress | None) -> bytes:
    log = logger(sdk)
    log.take_errors()
    if plugin is not None:
        take_plugin_error(plugin)
    # Without one, Ctrl-C would wait for the end of the build.
    monitor = make_monitor(sdk, progress or (lambda phase, done, steps: None))
    config.progress_monitor = monitor
    plan = parsed.builder.build_serialized_network(parsed.network, config)
    if monitor.error is not None:
        raise monitor.error
    if plan is None:
        refusal = take_plugin_error(plugin) if plugin is not None else ""
        reason = f"the plugin does not take a layer: {refusal}" if refusal else said(log.take_errors())
        raise CheckFailed(f"{title(sdk)} could not build the engine: {reason}")
    return bytes(plan)
