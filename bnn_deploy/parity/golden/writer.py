"""Writes a golden bundle: what PyTorch made of some inputs, so that any machine can check a runner without PyTorch.

Inputs, packed bits and outputs are stored, accumulators as hashes: they follow from the bits and the signs of the
weights, which are stored too, so a difference is not only detected but counted and located. `format` has the
layout.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from bnn_deploy.bits import binarize, pack_bits
from bnn_deploy.errors import InputRefused
from bnn_deploy.parity.compare import allowance
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
    sha256_of_integers,
    sha256_of_manifest,
)
from bnn_deploy.parity.harness import UNIT_ROUNDOFF, precision_of
from bnn_deploy.parity.inputs import InputCase
from bnn_deploy.parity.layerwise import reference_accumulator
from bnn_deploy.parity.npz import npz_bytes
from bnn_deploy.runners.base import BinarizationRecord, LayerRecord, Recording, RecordingRunner

Words = dict[str, NDArray[np.int32]]
INPUT_BYTES = 16 * 2**20
"""A bundle is to be carried about: cases are taken in order while their inputs stay below this. What else is stored of
a case is in proportion.
"""


@dataclass(frozen=True)
class GoldenCase:
    """One set of inputs, and what PyTorch made of it.

    Attributes:
        inputs: The inputs.
        recording: Of the PyTorch network, given them and no real tensor besides: a bundle holds none to replay, and so
            rounding grows from the inputs on.
    """

    inputs: InputCase
    recording: Recording


def golden_cases(
    reference: RecordingRunner, model: onnx.ModelProto, cases: Sequence[InputCase], *, input_bytes: int = INPUT_BYTES
) -> list[GoldenCase]:
    """Records the first of `cases`, and those behind it that fit into a bundle.

    Args:
        reference: The PyTorch network.
        model: The deployed file.
        cases: At least one.
        input_bytes: How much the inputs of all that are taken may amount to; the first is taken whatever its size.
    """
    chosen: list[GoldenCase] = []
    used = 0
    for case in cases:
        used += sum(array.nbytes for array in case.feeds.values())
        if chosen and used > input_bytes:
            break
        chosen.append(GoldenCase(case, reference.record(case.feeds, precision=precision_of(model))))
    return chosen


def write_golden(
    folder: Path,
    model: onnx.ModelProto,
    cases: Sequence[GoldenCase],
    *,
    description: str = "",
    versions: Mapping[str, str] | None = None,
) -> int:
    """Writes a bundle, all of it or nothing. A bundle that is there already is replaced.

    Args:
        folder: Where; made where it is missing.
        model: The deployed file.
        cases: At least one.
        description: What the model is, for whoever verifies.
        versions: Package -> version, likewise.

    Returns:
        The size of the bundle in bytes.

    Raises:
        InputRefused: `folder` holds something else, or cannot be written.
    """
    check_target(folder)
    words: Words = {}
    unit_roundoff = UNIT_ROUNDOFF[precision_of(model)]
    entries = [_case_entry(case, words, unit_roundoff) for case in cases]
    files = {MODEL: model.SerializeToString(), EXPECTED: npz_bytes(words)}
    for number, case in enumerate(cases, 1):
        files[f"{case_folder(number)}/{INPUTS}"] = npz_bytes(case.inputs.feeds)
        files[f"{case_folder(number)}/{OUTPUTS}"] = npz_bytes(case.recording.outputs)
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "description": description,
        "versions": dict(versions or {}),
        "cases": entries,
        "files": {
            name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in files.items()
        },
    }
    manifest[OWN_HASH] = sha256_of_manifest(manifest)
    files[MANIFEST] = json.dumps(manifest, indent=1).encode()
    try:
        _replace_folder(folder, files)
    except OSError as error:
        raise InputRefused(str(folder), f"cannot be written: {error.strerror}", "a folder that can be") from error
    return sum(map(len, files.values()))


def check_target(folder: Path) -> None:
    """Raises `InputRefused` unless a bundle may be written to `folder`: nothing there, an empty folder or a bundle."""
    wanted = "a new folder, an empty one or a golden bundle to replace"
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputRefused(str(folder), "a file", wanted, "name another folder")
    if any(folder.iterdir()) and not _is_bundle(folder):
        raise InputRefused(str(folder), "a folder with other things in it", wanted, "name another folder")


def _is_bundle(folder: Path) -> bool:
    try:
        content = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("format") == FORMAT


def _case_entry(case: GoldenCase, words: Words, unit_roundoff: float) -> dict[str, Any]:
    """The case as the manifest has it; adds its arrays to `words`."""
    recording = case.recording
    return {
        "name": case.inputs.name,
        "description": case.inputs.description,
        "samples": case.inputs.samples,
        "finite": case.inputs.finite,
        "binarizations": [_binarization(record, words, unit_roundoff) for record in recording.binarizations],
        "layers": [_layer(record, words) for record in recording.layers],
        "tolerances": {
            name: float(allowance(array.astype(np.float64), None, unit_roundoff=unit_roundoff).max(initial=0.0))
            for name, array in recording.outputs.items()
        },
    }


def _within_rounding(record: BinarizationRecord, unit_roundoff: float) -> NDArray[np.bool_]:
    """Where either side of the threshold is right, as `compare.flips` has it, in the shape of `record.x`.

    There the exact value is no further from the threshold than rounding reaches, or PyTorch's own rounding has put it
    on the other side.
    """
    wide = record.x.astype(np.float64)
    value, bound = (wide, None) if record.exact is None else (record.exact.value, record.exact.bound)
    reach = allowance(value, bound, unit_roundoff=unit_roundoff)
    moved = (binarize(value, record.levels) != binarize(wide, record.levels)) & np.isfinite(value) & np.isfinite(wide)
    return moved | ((np.abs(value) <= reach) & (reach > 0))


def _binarization(record: BinarizationRecord, words: Words, unit_roundoff: float) -> dict[str, Any]:
    near = _within_rounding(record, unit_roundoff)
    entry: dict[str, Any] = {
        "name": record.name,
        "levels": str(record.levels),
        "packed": _keep(binarize(record.x, record.levels), 1, words),
        "ties": int(near.sum()),
    }
    if near.any():
        mask = pack_bits(near.reshape(-1))
        entry["tie_mask_sha256"] = sha256_of_integers(mask)
        words[entry["tie_mask_sha256"]] = mask
    return entry


def _layer(record: LayerRecord, words: Words) -> dict[str, Any]:
    accumulator = reference_accumulator(record)
    entry: dict[str, Any] = {
        "name": record.name,
        "weight": _keep(record.weight, 1, words),
        "geometry": None if record.geometry is None else asdict(record.geometry),
        "shape": list(accumulator.shape),
        "input": None,
        "accumulator_sha256": None,
    }
    if np.issubdtype(accumulator.dtype, np.integer):  # else its input is no levels, and there are no integers to hash
        entry["input"] = _keep(record.x.astype(np.int8), record.channel_axis, words)
        entry["accumulator_sha256"] = sha256_of_integers(accumulator)
    return entry


def _keep(values: NDArray[np.int8], channel_axis: int, words: Words) -> dict[str, Any]:
    packed, content = PackedLevels.of(values, channel_axis)
    words[packed.sha256] = content.reshape(-1)
    return packed.to_json()


def _replace_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes a folder beside `folder`, then renames it over that."""
    folder = folder.resolve()
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    try:
        for name, content in files.items():
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            (temporary / name).write_bytes(content)
        if folder.exists():
            folder.rename(old)
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
