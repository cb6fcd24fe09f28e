"""Inputs to check a network on, where the user gives none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LARGE_IMAGE_PIXELS = 128 * 128


def sample_count(shape: Sequence[int]) -> int:
    """How many samples to check: fewer of large images, whose intermediate tensors are all kept."""
    pixels = int(np.prod(shape[2:])) if len(shape) > 2 else 1
    return 4 if pixels > LARGE_IMAGE_PIXELS else 16


def random_samples(shape: Sequence[int], count: int, seed: int) -> NDArray[np.float32]:
    """Images with structure at two scales, then an all-zero one, then a constant one.

    The last two put exact zeros and equal neighbours in front of the binarisations: what a random image never does.

    Args:
        shape: [1, C, *spatial], [1, C] or [1].
        count: How many samples, at least 3.
        seed: Of the generator.

    Returns:
        [count, *shape[1:]] float32.
    """
    generator = np.random.default_rng(seed)
    fine = generator.standard_normal((count, *shape[1:]))
    coarse = generator.standard_normal((count, *shape[1:2], *[1] * (len(shape) - 2)))
    samples = (fine + coarse).astype(np.float32)
    samples[-2] = 0.0
    samples[-1] = 1.0
    return samples
