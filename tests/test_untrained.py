"""Networks that nobody trained: every binary weight has a sign, every BatchNorm the statistics of its inputs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bnn_deploy import nn as bnn
from bnn_deploy.untrained import BATCH, BATCHES, calibrate_batch_norms, fill_zero_weights, smooth_images


def test_zero_weights_are_filled_and_counted_in_binary_layers_only() -> None:
    model = nn.Sequential(bnn.BinaryConv2d(2, 3, 1), nn.Conv2d(3, 3, 1), bnn.BinaryLinear(3, 2), bnn.RSign(2))
    with torch.no_grad():
        model[0].weight.view(-1)[:4] = torch.tensor([0.0, -0.0, 1.0, -1.0])
        model[1].weight.zero_()
        model[2].weight[1, 1] = 0.0
    kept = model[0].weight.detach().view(-1)[2:].clone()
    assert fill_zero_weights(model) == 3
    assert (model[0].weight.view(-1)[:2] > 0).all() and model[2].weight[1, 1] > 0
    assert torch.equal(model[0].weight.view(-1)[2:], kept)
    assert (model[1].weight == 0).all()
    assert fill_zero_weights(model) == 0


def test_statistics_are_averages_over_the_batches() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3, momentum=0.3), nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
    torch.manual_seed(5)
    calibrate_batch_norms(model, (3, 16, 24))

    torch.manual_seed(5)
    batches = [smooth_images(BATCH, (3, 16, 24)).double() for _ in range(BATCHES)]
    mean = torch.stack([batch.mean(dim=(0, 2, 3)) for batch in batches]).mean(dim=0)
    variance = torch.stack([batch.var(dim=(0, 2, 3)) for batch in batches]).mean(dim=0)
    torch.testing.assert_close(model[0].running_mean.double(), mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model[0].running_var.double(), variance, rtol=1e-4, atol=1e-5)
    assert model[0].momentum == 0.3 and model[2].momentum == 0.1
    assert not any(part.training for part in model.modules())
    assert (model[2].running_var != 1).all()


def test_dropout_and_parameters_take_no_part() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.9), nn.BatchNorm2d(3))
    calibrate_batch_norms(model, (3, 8, 8))
    # What the first makes has variance 1; a dropout in training would multiply it by about ten.
    torch.testing.assert_close(model[2].running_var, torch.ones(3), rtol=0.05, atol=0)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 9, 17), (2, 1, 1)])
def test_images_are_smooth(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    images = smooth_images(6, shape)
    assert images.shape == (6, *shape) and torch.isfinite(images).all()
    if shape[1] == 32:
        step = (images[..., 1:] - images[..., :-1]).square().mean()
        assert step < 0.5 * 2 * images.var()  # Independent neighbours would differ by twice the variance.
