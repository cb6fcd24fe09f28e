"""From an exported file to an engine file with its metadata: what `bnn-deploy engine` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx

from bnn_deploy import opset
from bnn_deploy.errors import InputRefused
from bnn_deploy.tensorrt.device import open_gpu
from bnn_deploy.tensorrt.engine import BuildOptions, Progress, build_serialized_engine
from bnn_deploy.tensorrt.metadata import EngineMetadata, sha256_of, write_engine
from bnn_deploy.tensorrt.network import ParsedNetwork
from bnn_deploy.tensorrt.plugin import VERSION, plugin_path
from bnn_deploy.tensorrt.profiles import Profile, SizeRange, free_axes
from bnn_deploy.tensorrt.sdk import load_sdk

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
    """Builds an engine of an exported file, and writes it beside its metadata (`engine` and `engine.json`).

    No GPU is needed with TensorRT-RTX, which builds for all that it supports.

    Args:
        model: An ONNX file as `export` writes it. Its precision is that of the engine.
        engine: The file to write.
        profiles: The sizes to serve, axis by axis; by default a free batch is 1 to 32, fastest at 8.
        use_plugin: False builds without our kernels, of the function bodies: 1-bit layers are float then, and slow.
        options: See `BuildOptions`.
        progress: Called with a phase, the steps done in it, and how many it has.

    Raises:
        InputRefused: The file is not there, TensorRT or the plugin is not installed, or does not take a node.
        CheckFailed: The build failed.
    """
    path = Path(model)
    if not path.is_file():
        raise InputRefused(str(path), "no such file", "an ONNX file that `bnn-deploy export` wrote")
    content = path.read_bytes()
    proto = onnx.load_from_string(content)
    plugin = plugin_path() if use_plugin else None
    chosen = list(profiles) or _default_profiles(proto)
    options = options or BuildOptions()
    built = build_serialized_engine(proto, profiles=chosen, plugin=plugin, options=options, progress=progress)
    sdk = load_sdk()
    metadata = EngineMetadata(
        engine_sha256=sha256_of(built.plan),
        model_sha256=sha256_of(content),
        precision=next((entry.value for entry in proto.metadata_props if entry.key == opset.PRECISION), opset.FP32),
        profiles=[
            {axis: [sizes.minimum, sizes.optimum, sizes.maximum] for axis, sizes in profile.items()}
            for profile in chosen
        ],
        sdk=sdk.__name__,
        sdk_version=sdk.__version__,
        plugin_version=VERSION,
        plugin_sha256=sha256_of(plugin.read_bytes()) if plugin is not None and not options.embed_plugin else "",
        compute_capability=_compute_capability(),
        version_compatible=options.version_compatible or options.embed_plugin,
        layers=describe_layers(built.network),
    )
    write_engine(Path(engine), built.plan, metadata)
    return metadata


def _default_profiles(model: onnx.ModelProto) -> list[Profile]:
    """Of a file whose batch alone is free. Other axes have no size that would do for all."""
    return [{BATCH: DEFAULT_BATCH}] if set(free_axes(model)) == {BATCH} else []


def _compute_capability() -> str:
    """Of this machine's GPU; empty where there is none."""
    try:
        return open_gpu().compute_capability
    except InputRefused:
        return ""


def describe_layers(parsed: ParsedNetwork) -> list[dict[str, Any]]:
    """What TensorRT made of each node: name, kind, outputs, and the bytes of the constants that it reads.

    A constant that several layers read counts for the first.
    """
    layers = [parsed.network.get_layer(index) for index in range(parsed.network.num_layers)]
    constants = {layer.get_output(0).name: layer.get_output(0) for layer in layers if _kind(layer) == "CONSTANT"}
    rows = []
    for layer in layers:
        if _kind(layer) == "CONSTANT":
            continue
        inputs = [layer.get_input(index) for index in range(layer.num_inputs)]
        own = [constants.pop(tensor.name) for tensor in inputs if tensor is not None and tensor.name in constants]
        outputs = [layer.get_output(index) for index in range(layer.num_outputs)]
        rows.append(
            {
                "name": layer.name,
                "kind": _kind(layer),
                "outputs": [{"shape": list(out.shape), "type": out.dtype.name} for out in outputs if out is not None],
                "constant_bytes": sum(_volume(tensor.shape) * tensor.dtype.itemsize for tensor in own),
            }
        )
    return rows


def _kind(layer: Any) -> str:
    name: str = layer.type.name
    return name


def _volume(shape: Sequence[int]) -> int:
    volume = 1
    for size in shape:
        volume *= size
    return volume
