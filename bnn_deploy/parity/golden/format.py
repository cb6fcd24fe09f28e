"""What a golden bundle holds and in which layout; `writer` writes it, `reader` reads it.

    manifest.json       format version, versions, every name, shape and hash; also the hash of the rest of itself
    model.onnx          the deployed file
    expected.npz        packed bits, tie masks and weight signs, each once, under the SHA-256 of its bytes
    case1/inputs.npz    input name -> array, as `bnn-deploy run --input` takes it
    case1/outputs.npz   output name -> array, what PyTorch computed
    case2/...

The canonical layout of levels: the channel axis last, packed by the bit contract (`bits`) as bipolar where no level is
0 and as ternary otherwise, whatever the deployed file does. Its hash is the SHA-256 of the little-endian int32 words.
The hash of a layer's accumulators is that of [N, O, H', W'] or [..., O], little-endian int32, in C order.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnn_deploy.bits import Levels, pack_levels, unpack_levels

FORMAT, FORMAT_VERSION = "bnn_deploy.golden", 1
MANIFEST, MODEL, EXPECTED = "manifest.json", "model.onnx", "expected.npz"
INPUTS, OUTPUTS = "inputs.npz", "outputs.npz"
OWN_HASH = "manifest_sha256"


def case_folder(number: int) -> str:
    """The folder of the n-th case, from 1."""
    return f"case{number}"


@dataclass(frozen=True)
class PackedLevels:
    """Levels in the canonical layout.

    Attributes:
        shape: Of the levels, before the channel axis was moved.
        channel_axis: Of `shape`.
        levels: How they are packed.
        sha256: Of the words.
    """

    shape: tuple[int, ...]
    channel_axis: int
    levels: Levels
    sha256: str

    @classmethod
    def of(cls, values: NDArray[np.int8], channel_axis: int) -> tuple[PackedLevels, NDArray[np.int32]]:
        """Packs. values: -1, 0 and +1 -> the description, and the words [..., planes * ceil(C / 32)] int32."""
        levels = Levels.TERNARY if (values == 0).any() else Levels.BIPOLAR
        words = pack_levels(np.moveaxis(values, channel_axis, -1), levels)
        return cls(values.shape, channel_axis % values.ndim, levels, sha256_of_integers(words)), words

    def unpack(self, words: NDArray[np.int32]) -> NDArray[np.int8]:
        """The levels, in their shape. words: those that `of` returned, flat or not."""
        moved = [size for axis, size in enumerate(self.shape) if axis != self.channel_axis]
        values = unpack_levels(words.reshape(*moved, -1), self.shape[self.channel_axis], self.levels)
        return np.ascontiguousarray(np.moveaxis(values, -1, self.channel_axis))

    def to_json(self) -> dict[str, Any]:
        """As the manifest has it."""
        return asdict(self)

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> PackedLevels:
        """The inverse of `to_json`."""
        return cls(tuple(entry["shape"]), entry["channel_axis"], Levels(entry["levels"]), entry["sha256"])


def sha256_of_integers(values: NDArray[Any]) -> str:
    """The hash of integers as little-endian int32 in C order."""
    return hashlib.sha256(np.ascontiguousarray(values, "<i4").tobytes()).hexdigest()


def sha256_of_manifest(manifest: Mapping[str, Any]) -> str:
    """The hash of all of a manifest but its own hash, whatever the order of its keys."""
    rest = {key: value for key, value in manifest.items() if key != OWN_HASH}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
