"""From an exported file to an engine file with its metadata: what `bnn-deploy engine` does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import onnx

from bnn_deploy import opset
from bnn_deploy.errors import CheckFailed, InputRefused
from bnn_deploy.files import sha256
from bnn_deploy.gpu import Gpu, open_gpu
from bnn_deploy.inspection import load_model
from bnn_deploy.native import TENSORRT_PLUGIN
from bnn_deploy.tensorrt.engine import build_serialized_engine
from bnn_deploy.tensorrt.interface import describe_tensors
from bnn_deploy.tensorrt.layers import describe_layers, tensor_formats
from bnn_deploy.tensorrt.loaded import LoadedEngine, installation
from bnn_deploy.tensorrt.metadata import EngineMetadata, Installation, sha256_of, write_engine
from bnn_deploy.tensorrt.options import BuildOptions
from bnn_deploy.tensorrt.profiles import Profile, SizeRange, free_axes, model_inputs
from bnn_deploy.tensorrt.progress import Progress
from bnn_deploy.tensorrt.sdk import is_rtx, load_sdk

BATCH = "batch"
DEFAULT_BATCH = SizeRange(1, 8, 32)


def build_engine(
    model: str | Path,
    engine: str | Path,
    *,
    profiles: Sequence[Profile] = (),
    use_plugin: bool = True,
    options: BuildOptions | None = None,
    progress: Progress | None = None,
) -> EngineMetadata:
    """Builds an engine of an exported file, and writes it and its metadata (`engine` and `engine.json`).

    No GPU is needed with TensorRT-RTX, which builds for all that it supports.

    Args:
        model: An ONNX file as `export` writes it. Its precision is that of the engine.
        engine: The file to write.
        profiles: The sizes to serve, axis by axis; by default a free batch is 1 to 32, fastest at 8.
        use_plugin: False builds without our kernels, of the function bodies: 1-bit layers are float then, and slow.
        options: See `BuildOptions`.
        progress: Called with a phase, the steps done in it, and how many it has.

    Raises:
        InputRefused: The file is not there, TensorRT or the plugin is not installed, or does not take a node; or the
            engine cannot be written there.
        CheckFailed: The build failed; with TensorRT's own message.
    """
    source, target = Path(model), Path(engine)
    proto = load_model(source)
    if target.is_dir():
        raise InputRefused(f"engine {target}", "a folder", "the name of a file", str(target / "model.engine"))
    if target.resolve() == source.resolve():
        raise InputRefused(f"engine {target}", "the model itself", "another name")
    plugin = TENSORRT_PLUGIN.path() if use_plugin else None
    chosen = list(profiles) or _default_profiles(proto)
    options = options or BuildOptions()
    built = build_serialized_engine(proto, profiles=chosen, plugin=plugin, options=options, progress=progress)
    gpu = _gpu()
    sdk = load_sdk()
    properties = {entry.key: entry.value for entry in proto.metadata_props}
    metadata = EngineMetadata(
        **asdict(_built_with(plugin, gpu)),
        engine_sha256=sha256_of(built.plan),
        model_sha256=sha256(source),
        precision=properties.get(opset.PRECISION, opset.FP32),
        profiles=[
            {axis: [sizes.minimum, sizes.optimum, sizes.maximum] for axis, sizes in profile.items()}
            for profile in chosen
        ],
        plugin_sha256=sha256(plugin) if plugin is not None else "",
        plugin_embedded=options.embed_plugin,
        version_compatible=options.version_compatible,
        layers=describe_layers(sdk, built.network, _formats(built.plan, gpu, plugin)),
        inputs=describe_tensors(model_inputs(proto)),
        outputs=describe_tensors(proto.graph.output),
        properties=properties,
    )
    write_engine(target, built.plan, metadata)
    return metadata


def _default_profiles(model: onnx.ModelProto) -> list[Profile]:
    """Of a file whose batch alone is free. Other axes have no size that would do for all."""
    return [{BATCH: DEFAULT_BATCH}] if set(free_axes(model)) == {BATCH} else []


def _gpu() -> Gpu | None:
    try:
        return open_gpu()
    except InputRefused:
        return None


def _built_with(plugin: Path | None, gpu: Gpu | None) -> Installation:
    """TensorRT builds for the GPU that it finds, TensorRT-RTX for every kind that it supports."""
    here = installation(None if is_rtx(load_sdk()) else gpu)
    return here if plugin is not None else replace(here, plugin_version="")


def _formats(plan: bytes, gpu: Gpu | None, plugin: Path | None) -> dict[str, str]:
    """As far as they are to be had: there may be no GPU here, or one that TensorRT-RTX builds for and cannot run on."""
    if gpu is None:
        return {}
    try:
        return tensor_formats(LoadedEngine(plan, gpu, plugin=plugin, host_code=True))
    except CheckFailed:
        return {}
