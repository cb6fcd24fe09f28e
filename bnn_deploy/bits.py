"""The bit contract, in Python. Every other file that packs, reads or counts bits cites this one.

- Bit 1 is the greater of the two levels, bit 0 the lesser.
- 32 channels to an `int32` word, channel 0 in the least significant bit; unused high bits of the last word are 0.
- Activations `[N, *spatial, ceil(C / 32)]`, weights `[O, *kernel, ceil(C / groups / 32)]`: channels last.
- *bipolar* {-1, +1}: `x >= t` is +1, so both zeros are +1 at t = 0. *unipolar* {0, 1}: `x > t` is 1.
  *ternary* {-1, 0, +1}: two planes, P (`x > 0`) then N (`not x >= 0`), joined on the word axis to
  `2 * ceil(C / 32)` words.
- NaN is the lesser level of every kind: -1, 0 and -1.
- A padded tap contributes 0 to the accumulator unless the layer asks for -1 or +1 there.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from bnn_deploy.errors import InputRefused

WORD_BITS = 32


class Levels(StrEnum):
    """The values that a binarised tensor takes."""

    BIPOLAR = "bipolar"
    UNIPOLAR = "unipolar"
    TERNARY = "ternary"

    @property
    def planes(self) -> int:
        """How many bits hold one value."""
        return 2 if self is Levels.TERNARY else 1


def words_for(channels: int) -> int:
    """The number of 32-bit words that hold `channels` bits."""
    return -(-channels // WORD_BITS)


def binarize(
    x: NDArray[np.floating], levels: Levels, threshold: float | NDArray[np.floating] = 0.0
) -> NDArray[np.int8]:
    """Real values to levels.

    Args:
        x: Any shape, any float dtype.
        levels: The kind of levels; `ternary` takes no threshold but 0.
        threshold: Broadcast against `x`.

    Returns:
        The shape of `x`, int8: -1, 0 or +1.
    """
    with np.errstate(invalid="ignore"):
        if levels is Levels.BIPOLAR:
            return np.where(x >= threshold, 1, -1).astype(np.int8)
        if levels is Levels.UNIPOLAR:
            return (x > threshold).astype(np.int8)
        return np.where(x > 0, 1, np.where(x >= 0, 0, -1)).astype(np.int8)


def pack_bits(bits: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Packs the last axis. bits: [..., C] bool -> [..., ceil(C / 32)] int32."""
    channels = bits.shape[-1]
    padding = [(0, 0)] * (bits.ndim - 1) + [(0, words_for(channels) * WORD_BITS - channels)]
    octets = np.packbits(np.pad(bits, padding), axis=-1, bitorder="little")
    return np.ascontiguousarray(octets).view("<i4").astype(np.int32, copy=False)


def unpack_bits(words: NDArray[np.int32], channels: int) -> NDArray[np.bool_]:
    """The inverse of `pack_bits`. words: [..., W] int32 -> [..., channels] bool.

    Raises:
        InputRefused: The word count is not the one that `channels` needs.
    """
    if words.shape[-1] != words_for(channels):
        raise InputRefused(
            "packed tensor",
            f"{words.shape[-1]} words for {channels} channels",
            f"{words_for(channels)} words of 32 bits",
        )
    octets = np.ascontiguousarray(words.astype("<i4", copy=False)).view(np.uint8)
    return np.unpackbits(octets, axis=-1, bitorder="little", count=channels).astype(bool)


def pack_levels(values: NDArray[np.int8], levels: Levels) -> NDArray[np.int32]:
    """Packs levels along the last axis. values: [..., C] int8 -> [..., planes * ceil(C / 32)] int32."""
    if levels is Levels.TERNARY:
        return np.concatenate([pack_bits(values > 0), pack_bits(values < 0)], axis=-1)
    return pack_bits(values > 0)


def unpack_levels(words: NDArray[np.int32], channels: int, levels: Levels) -> NDArray[np.int8]:
    """The inverse of `pack_levels`. words: [..., planes * ceil(C / 32)] int32 -> [..., channels] int8."""
    if levels is Levels.TERNARY:
        plane_words = words_for(channels)
        positive, negative = words[..., :plane_words], words[..., plane_words:]
        return unpack_bits(positive, channels).astype(np.int8) - unpack_bits(negative, channels).astype(np.int8)
    bits = unpack_bits(words, channels)
    low = -1 if levels is Levels.BIPOLAR else 0
    return np.where(bits, 1, low).astype(np.int8)


def popcount(words: NDArray[np.int32]) -> NDArray[np.int64]:
    """The number of set bits along the last axis. words: [..., W] int32 -> [...] int64."""
    octets = np.ascontiguousarray(words).view(np.uint8)
    return np.unpackbits(octets, axis=-1).sum(axis=-1, dtype=np.int64)
