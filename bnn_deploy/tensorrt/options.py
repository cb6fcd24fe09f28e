"""What can be asked of a build, and how TensorRT is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bnn_deploy.errors import InputRefused
from bnn_deploy.tensorrt.sdk import is_rtx, title

LEAVE_OUT = "leave it out"


@dataclass(frozen=True)
class BuildOptions:
    """How an engine is built.

    Attributes:
        workspace_bytes: How much memory a kernel may use beside its inputs and outputs; all there is where None.
        timing_cache: A file of timings, read where it is there and written after the build.
        version_compatible: Whether later versions of TensorRT may load the engine.
        embed_plugin: Whether the plugin's library goes into the engine, which then runs where there is none.

    Raises:
        InputRefused: The workspace is empty, or the timing cache no file.
    """

    workspace_bytes: int | None = None
    timing_cache: Path | None = None
    version_compatible: bool = False
    embed_plugin: bool = False

    def __post_init__(self) -> None:
        if self.workspace_bytes is not None and self.workspace_bytes <= 0:
            raise InputRefused("workspace_bytes", f"{self.workspace_bytes} bytes", "at least one")
        if self.timing_cache is not None and self.timing_cache.is_dir():
            raise InputRefused(f"timing_cache {self.timing_cache}", "a folder", "the name of a file")


def configure(sdk: Any, config: Any, options: BuildOptions, plugin: Path | None) -> Any:
    """Sets what every build has, and the options.

    Float32 is computed as such: TF32, which TensorRT allows itself otherwise, rounds factors to 11 bits. TensorRT-RTX
    is told to leave memory to the execution context, without which no run of its engines can become a CUDA graph. All
    that is known of the layers goes into the engine, for `layers.tensor_formats` to read.

    Args:
        sdk: TensorRT.
        config: An `IBuilderConfig`.
        options: See there.
        plugin: The library of our plugins, if the engine has any.

    Returns:
        The timing cache, which has to live until the engine is built, or None.

    Raises:
        InputRefused: This TensorRT does not have an option, or does not take the timing cache.
    """
    flags = sdk.BuilderFlag
    if hasattr(flags, "TF32"):
        config.clear_flag(flags.TF32)
    if hasattr(flags, "REQUIRE_USER_ALLOCATION"):
        config.set_flag(flags.REQUIRE_USER_ALLOCATION)
    config.profiling_verbosity = sdk.ProfilingVerbosity.DETAILED
    if options.workspace_bytes is not None:
        config.set_memory_pool_limit(sdk.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    _set_version_compatible(sdk, config, options)
    if options.embed_plugin:
        _embed(sdk, config, plugin)
    return _load_timing_cache(sdk, config, options.timing_cache) if options.timing_cache is not None else None


def _set_version_compatible(sdk: Any, config: Any, options: BuildOptions) -> None:
    """TensorRT puts libraries into version-compatible engines only; TensorRT-RTX has no such, and does so in any."""
    if options.version_compatible and (is_rtx(sdk) or not hasattr(sdk.BuilderFlag, "VERSION_COMPATIBLE")):
        raise InputRefused("version_compatible", f"{title(sdk)} builds no such engines", fix=LEAVE_OUT)
    if options.version_compatible or (options.embed_plugin and not is_rtx(sdk)):
        config.set_flag(sdk.BuilderFlag.VERSION_COMPATIBLE)


def _embed(sdk: Any, config: Any, plugin: Path | None) -> None:
    if plugin is None or not hasattr(config, "plugins_to_serialize"):
        found = "the engine has no plugin" if plugin is None else f"{title(sdk)} puts no plugin into an engine"
        raise InputRefused("embed_plugin", found, fix=LEAVE_OUT)
    config.plugins_to_serialize = [str(plugin)]


def _load_timing_cache(sdk: Any, config: Any, file: Path) -> Any:
    """TensorRT-RTX times nothing when it builds; its cache takes any content, and would overwrite any file."""
    if is_rtx(sdk) or not hasattr(config, "create_timing_cache"):
        raise InputRefused("timing_cache", f"{title(sdk)} keeps no timings", fix=LEAVE_OUT)
    cache = config.create_timing_cache(file.read_bytes() if file.is_file() else b"")
    if cache is None or not config.set_timing_cache(cache, False):
        found = "no timing cache, or one of another GPU or another version"
        raise InputRefused(f"timing_cache {file}", found, "what an earlier build here wrote", "name another file")
    return cache
