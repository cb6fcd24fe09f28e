"""What an engine was built from and for, kept beside it, so that one that does not fit is explained and not crashed on.

`model.engine` is TensorRT's plan as it is, for any tool that loads plans; `model.engine.json` says the rest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from bnn_deploy.errors import InputRefused
from bnn_deploy.files import write_atomically

FORMAT = 1


@dataclass(frozen=True)
class Installation:
    """What an engine is built with, and what it runs with.

    Attributes:
        sdk: `tensorrt` or `tensorrt_rtx`.
        sdk_version: Its version.
        cuda: The major version of CUDA that it was made for; empty where its package does not tell.
        plugin_version: Of our plugins; empty where there are none.
        compute_capability: Of the GPU, as `9.0`. Of an engine empty where it was built without a GPU or for several
            kinds of them.
    """

    sdk: str
    sdk_version: str
    cuda: str
    plugin_version: str
    compute_capability: str


@dataclass(frozen=True)
class EngineMetadata(Installation):
    """All of it.

    Attributes:
        engine_sha256: Of the plan.
        model_sha256: Of the ONNX file.
        precision: `fp32` or `fp16`.
        profiles: One object a profile: axis -> [minimum, optimum, maximum].
        plugin_sha256: Of the library of our plugins; empty where there are none.
        plugin_embedded: Whether that is in the plan.
        version_compatible: Whether later versions of TensorRT may load it.
        layers: What TensorRT made of the network: one object a layer.
        inputs: Name -> `shape` and `type`, as the ONNX file has them.
        outputs: Likewise.
        properties: The ONNX file's own metadata.
        format: Of this record.
    """

    engine_sha256: str
    model_sha256: str
    precision: str
    profiles: Sequence[dict[str, Sequence[int]]]
    plugin_sha256: str
    plugin_embedded: bool
    version_compatible: bool
    layers: Sequence[dict[str, Any]]
    inputs: Mapping[str, dict[str, Any]]
    outputs: Mapping[str, dict[str, Any]]
    properties: Mapping[str, str] = field(default_factory=dict)
    format: int = FORMAT


def metadata_path(engine: Path) -> Path:
    """Where the metadata of an engine is."""
    return engine.with_name(f"{engine.name}.json")


def sha256_of(data: bytes) -> str:
    """In hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def write_engine(path: Path, plan: bytes, metadata: EngineMetadata) -> None:
    """Writes both files, or neither: the plan, which may find the disk full, first and under another name.

    Raises:
        InputRefused: They cannot be written there.
    """
    aside = path.with_name(f".{path.name}.plan")
    try:
        try:
            write_atomically(aside, plan)
            write_atomically(metadata_path(path), json.dumps(asdict(metadata), indent=2).encode())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        found = f"cannot be written: {error.strerror}"
        raise InputRefused(str(path), found, "a file in a folder that can be written to") from error


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
        raise InputRefused(str(path), f"not JSON: {error}", wanted, "build the engine again") from error
    names = {entry.name for entry in fields(EngineMetadata)}
    if not isinstance(content, dict) or content.get("format") != FORMAT or set(content) != names:
        found = f"format {content['format']}" if isinstance(content, dict) and "format" in content else "something else"
        raise InputRefused(str(path), f"{found}, or a part is missing", wanted, "build the engine again")
    return EngineMetadata(**content)


def check_fits(path: Path, built: EngineMetadata, here: Installation) -> None:
    """Raises `InputRefused`, with what was found and what is wanted, unless the engine can run here.

    Args:
        path: Of the engine, for the message.
        built: What it was built with.
        here: What there is.
    """
    rebuild = "build the engine again, here"
    if built.sdk != here.sdk:
        raise InputRefused(str(path), f"built with {built.sdk}", f"an engine of {here.sdk}", rebuild)
    if built.sdk_version != here.sdk_version and not built.version_compatible:
        found = f"built with {built.sdk} {built.sdk_version}"
        raise InputRefused(str(path), found, f"one of {here.sdk_version}", rebuild)
    if built.plugin_version not in ("", here.plugin_version) and not built.plugin_embedded:
        found = f"built for version {built.plugin_version} of the plugins"
        raise InputRefused(str(path), found, f"version {here.plugin_version}", rebuild)
    if built.compute_capability not in ("", here.compute_capability):
        found = f"built for a GPU of compute capability {built.compute_capability}"
        raise InputRefused(str(path), found, f"{here.compute_capability}, that of this one", rebuild)


def differences(built: Installation, here: Installation) -> str:
    """What may be why an engine that should run here does not; empty where nothing is known."""
    if built.cuda and here.cuda and built.cuda != here.cuda:
        return f"it was built with CUDA {built.cuda}, here is CUDA {here.cuda}"
    return ""
