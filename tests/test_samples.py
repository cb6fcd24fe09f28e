"""Inputs to check a network on."""

from __future__ import annotations

import numpy as np
import pytest

from bnn_deploy.samples import random_samples, sample_count


@pytest.mark.parametrize(
    ("shape", "count"),
    [((1, 784), 16), ((1, 1, 28, 28), 16), ((1, 3, 128, 128), 16), ((1, 3, 129, 128), 4), ((1, 3, 224, 224), 4)],
)
def test_fewer_samples_of_large_images(shape: tuple[int, ...], count: int) -> None:
    assert sample_count(shape) == count


@pytest.mark.parametrize("shape", [(1, 10), (1, 3, 8, 9), (1, 2, 5)])
def test_shape_and_type(shape: tuple[int, ...]) -> None:
    samples = random_samples(shape, 5, seed=0)
    assert samples.shape == (5, *shape[1:])
    assert samples.dtype == np.float32
    assert np.isfinite(samples).all()


def test_the_last_two_are_all_zero_and_constant() -> None:
    samples = random_samples((1, 3, 8, 8), 4, seed=0)
    assert (samples[-2] == 0).all()
    assert (samples[-1] == samples[-1].flat[0]).all()
    assert samples[-1].any()
    assert (samples[:-2] != 0).all()


def test_a_seed_gives_the_same_samples_again_and_another_seed_others() -> None:
    assert (random_samples((1, 3, 4, 4), 3, seed=7) == random_samples((1, 3, 4, 4), 3, seed=7)).all()
    assert (random_samples((1, 3, 4, 4), 3, seed=7)[0] != random_samples((1, 3, 4, 4), 3, seed=8)[0]).any()


def test_random_images_have_structure_at_two_scales() -> None:
    """A channel has a mean of its own, far from what white noise over so many pixels would have."""
    samples = random_samples((1, 64, 32, 32), 3, seed=0)[0]
    white_noise = 1 / 32
    assert samples.mean(axis=(1, 2)).std() > 10 * white_noise
    assert samples.std(axis=(1, 2)).min() > 0.9
