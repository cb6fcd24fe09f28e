"""What an engine was built from and for, kept beside it, so that one that does not fit is explained and not crashed on.

`model.engine` is TensorRT's plan as it is, for any tool that loads plans; `model.engine.json` says the rest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from bnn_deploy.errors import InputRefused
from bnn_deploy.files import write_atomically

FORMAT = 1


@dataclass(frozen=True)
class EngineMetadata:
    """All of it.

    Attributes:
        format: Of this record.
        engine_sha256: Of the plan.
        model_sha256: Of the ONNX file.
        precision: `fp32` or `fp16`.
        profiles: One object a profile: axis -> [minimum, optimum, maximum].
        sdk: `tensorrt` or `tensorrt_rtx`.
        sdk_version: Its version.
        plugin_version: Of our plugins.
        plugin_sha256: Of their library; empty where it is inside the plan.
        compute_capability: Of the GPU it was built on, as `9.0`; empty where it was built without one.
        version_compatible: Whether later versions of TensorRT may load it.
        layers: What TensorRT made of the network: one object a layer.
    """

    engine_sha256: str
    model_sha256: str
    precision: str
    profiles: Sequence[dict[str, Sequence[int]]]
    sdk: str
    sdk_version: str
    plugin_version: str
    plugin_sha256: str
    compute_capability: str
    version_compatible: bool
    layers: Sequence[dict[str, Any]]
    format: int = FORMAT


def metadata_path(engine: Path) -> Path:
    """Where the metadata of an engine is."""
    return engine.with_name(f"{engine.name}.json")


def sha256_of(data: bytes) -> str:
    """In hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def write_engine(path: Path, plan: bytes, metadata: EngineMetadata) -> None:
    """Writes both files; the metadata first, so that no engine is ever without."""
    write_atomically(metadata_path(path), json.dumps(asdict(metadata), indent=2).encode())
    write_atomically(path, plan)


def read_engine(path: Path) -> tuple[bytes, EngineMetadata]:
    """The plan and its metadata.

    Raises:
        InputRefused: A file is missing or damaged, or the two do not belong together.
    """
    beside = metadata_path(path)
    for file in (path, beside):
        if not file.is_file():
            raise InputRefused(str(file), "no such file", "an engine as `bnn-deploy engine` writes it, of two files")
    plan = path.read_bytes()
    metadata = _parse(beside)
    if metadata.engine_sha256 != sha256_of(plan):
        raise InputRefused(str(path), f"not the engine that {beside.name} describes", fix="build the engine again")
    return plan, metadata


def _parse(path: Path) -> EngineMetadata:
    wanted = f"metadata of format {FORMAT}, as `bnn-deploy engine` writes it"
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise InputRefused(str(path), f"not JSON: {error}", wanted) from error
    names = {field.name for field in fields(EngineMetadata)}
    if not isinstance(content, dict) or content.get("format") != FORMAT or set(content) != names:
        found = content.get("format") if isinstance(content, dict) else None
        raise InputRefused(str(path), f"metadata of format {found}", wanted, "build the engine again")
    return EngineMetadata(**content)


def check_fits(
    path: Path, metadata: EngineMetadata, *, sdk: str, sdk_version: str, plugin_version: str, compute_capability: str
) -> None:
    """Raises `InputRefused`, with what was found and what is wanted, unless the engine can run here.

    Args:
        path: Of the engine, for the message.
        metadata: What it was built with.
        sdk: The TensorRT that is installed.
        sdk_version: Its version.
        plugin_version: Of the plugins that are installed.
        compute_capability: Of this GPU.
    """
    rebuild = "build the engine again, here"
    if metadata.sdk != sdk:
        raise InputRefused(str(path), f"built with {metadata.sdk}", f"an engine of {sdk}", rebuild)
    if metadata.sdk_version != sdk_version and not metadata.version_compatible:
        raise InputRefused(str(path), f"built with {sdk} {metadata.sdk_version}", f"one of {sdk_version}", rebuild)
    if metadata.plugin_version != plugin_version:
        found = f"built for version {metadata.plugin_version} of the plugins"
        raise InputRefused(str(path), found, f"version {plugin_version}", rebuild)
    if metadata.compute_capability and metadata.compute_capability != compute_capability:
        found = f"built for a GPU of compute capability {metadata.compute_capability}"
        raise InputRefused(str(path), found, f"{compute_capability}, that of this one", rebuild)
