"""Reads a golden bundle, and refuses one that is not whole: every file is hashed before anything is made of it."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from bnn_deploy.bits import Levels, unpack_bits
from bnn_deploy.errors import InputRefused
from bnn_deploy.parity.golden.format import (
    EXPECTED,
    FORMAT,
    FORMAT_VERSION,
    INPUTS,
    MANIFEST,
    MODEL,
    OUTPUTS,
    OWN_HASH,
    PackedLevels,
    case_folder,
    sha256_of_manifest,
)
from bnn_deploy.reference import Geometry
from bnn_deploy.runners.base import Arrays, LayerRecord

_FIX = "write the bundle again, or copy it again from where it was written"


@dataclass(frozen=True)
class GoldenBits:
    """One binarisation.

    Attributes:
        name: As in the recording of the PyTorch network.
        levels: What it may yield.
        expected: [N, C, *spatial] int8, what it yielded.
        ties: Where the value lay within rounding of the threshold, and either level is right; of the same shape, bool.
    """

    name: str
    levels: Levels
    expected: NDArray[np.int8]
    ties: NDArray[np.bool_]


@dataclass(frozen=True)
class GoldenLayer:
    """One 1-bit layer.

    Attributes:
        record: Its name, input levels, signs and geometry; `y`, `scale` and `bias` are empty. `x` is empty too where
            the layer's activations are float.
        shape: Of its accumulators.
        accumulator_sha256: None for float activations, which make no integers.
    """

    record: LayerRecord
    shape: tuple[int, ...]
    accumulator_sha256: str | None


@dataclass(frozen=True)
class GoldenReplay:
    """One set of inputs and what is to come of it.

    Attributes:
        name: Of the inputs.
        description: What they are.
        samples: How many.
        finite: Whether every input is. Of NaN and infinity a runtime may make other ones: then integers and packed
            words alone are judged.
        feeds: Input name -> array.
        outputs: Output name -> what PyTorch computed.
        tolerances: Output name -> the error that counts as rounding.
        binarizations: In call order.
        layers: In call order.
    """

    name: str
    description: str
    samples: int
    finite: bool
    feeds: Arrays
    outputs: Arrays
    tolerances: dict[str, float]
    binarizations: tuple[GoldenBits, ...]
    layers: tuple[GoldenLayer, ...]


@dataclass(frozen=True)
class GoldenBundle:
    """All of a bundle."""

    description: str
    versions: dict[str, str]
    model: onnx.ModelProto
    cases: tuple[GoldenReplay, ...]
    total_bytes: int


def read_golden(folder: Path) -> GoldenBundle:
    """Reads a bundle.

    Raises:
        InputRefused: No bundle, one of a newer format, or one in which a file is missing or differs in a byte.
    """
    manifest = _read_manifest(folder)
    files = {name: _read_file(folder / name, entry) for name, entry in manifest["files"].items()}
    try:
        words = _arrays(files[EXPECTED])
        cases = tuple(
            _case(entry, case_folder(number), files, words) for number, entry in enumerate(manifest["cases"], 1)
        )
        model = onnx.load_model_from_string(files[MODEL])
    except (LookupError, TypeError, ValueError) as error:
        raise InputRefused(
            str(folder), f"a bundle that does not hold together: {error}", "what bnn-deploy wrote", _FIX
        ) from error
    return GoldenBundle(
        manifest["description"], manifest["versions"], model, cases, sum(len(content) for content in files.values())
    )


def _read_manifest(folder: Path) -> dict[str, Any]:
    path, wanted = folder / MANIFEST, "a folder that `bnn-deploy parity --golden` wrote"
    if not folder.is_dir():
        raise InputRefused(str(folder), "a file" if folder.exists() else "no such folder", wanted)
    if not path.is_file():
        raise InputRefused(str(folder), f"no {MANIFEST} in it", wanted)
    try:
        manifest = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputRefused(str(path), f"damaged: {error}", wanted, _FIX) from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise InputRefused(str(path), "not the manifest of a golden bundle", wanted)
    version = manifest.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise InputRefused(
            str(path), f"format version {version}", f"version {FORMAT_VERSION} or older", "a newer bnn_deploy"
        )
    if manifest.get(OWN_HASH) != sha256_of_manifest(manifest):
        raise InputRefused(str(path), "changed since it was written: its hash is another one", wanted, _FIX)
    return manifest


def _read_file(path: Path, entry: Mapping[str, Any]) -> bytes:
    if not path.is_file():
        raise InputRefused(str(path), "no such file", f"the file of {entry['bytes']:,} bytes in the manifest", _FIX)
    content = path.read_bytes()
    if len(content) != entry["bytes"]:
        raise InputRefused(str(path), f"{len(content):,} bytes", f"{entry['bytes']:,} as in the manifest", _FIX)
    found = hashlib.sha256(content).hexdigest()
    if found != entry["sha256"]:
        raise InputRefused(str(path), f"SHA-256 {found}", f"{entry['sha256']} as in the manifest", _FIX)
    return content


def _arrays(content: bytes) -> Arrays:
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _case(entry: Mapping[str, Any], folder: str, files: Mapping[str, bytes], words: Arrays) -> GoldenReplay:
    return GoldenReplay(
        name=entry["name"],
        description=entry["description"],
        samples=entry["samples"],
        finite=entry["finite"],
        feeds=_arrays(files[f"{folder}/{INPUTS}"]),
        outputs=_arrays(files[f"{folder}/{OUTPUTS}"]),
        tolerances=entry["tolerances"],
        binarizations=tuple(_bits(part, words) for part in entry["binarizations"]),
        layers=tuple(_layer(part, words) for part in entry["layers"]),
    )


def _bits(entry: Mapping[str, Any], words: Arrays) -> GoldenBits:
    expected = _levels(entry["packed"], words)
    ties = np.zeros(expected.shape, bool)
    if entry["ties"]:
        ties = unpack_bits(words[entry["tie_mask_sha256"]], expected.size).reshape(expected.shape)
    return GoldenBits(entry["name"], Levels(entry["levels"]), expected, ties)


def _layer(entry: Mapping[str, Any], words: Arrays) -> GoldenLayer:
    nothing: NDArray[Any] = np.zeros(0)
    x: NDArray[Any] = nothing if entry["input"] is None else _levels(entry["input"], words)
    geometry = None if entry["geometry"] is None else _geometry(entry["geometry"])
    record = LayerRecord(
        name=entry["name"],
        x=x,
        weight=_levels(entry["weight"], words),
        scale=nothing,
        bias=nothing,
        y=nothing,
        geometry=geometry,
    )
    return GoldenLayer(record, tuple(entry["shape"]), entry["accumulator_sha256"])


def _geometry(entry: Mapping[str, Any]) -> Geometry:
    lists: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
    return Geometry(**lists)


def _levels(entry: Mapping[str, Any], words: Arrays) -> NDArray[np.int8]:
    packed = PackedLevels.from_json(entry)
    return packed.unpack(words[packed.sha256])
