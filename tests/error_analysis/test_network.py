"""Exact values against the same module in float64, and bounds against what float32 makes of it."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from bnn_deploy.error_analysis import ROUNDINGS, analyse
from bnn_deploy.nn.functional import binarize
from bnn_deploy.nn.taps import BinarizeTap, record_taps
from bnn_deploy.samples import random_samples

NETWORKS = ["Residual", "Fused", "Assorted", "Repeated", "TwoInputs", "Spatial", "InPlace"]


def taped(module: Any, inputs: list[torch.Tensor]) -> tuple[Any, list[Any]]:
    with torch.no_grad(), record_taps() as taps:
        return module(*(x.clone() for x in inputs)), taps


def made(networks: ModuleType, name: str) -> Any:
    """The sums of `Repeated` are binarised as they are, and often 0: with weights of ±1 no arithmetic rounds them."""
    module = networks.make(name)
    if name == "Repeated":
        with torch.no_grad():
            for weight in (module.conv.weight, module.weight, module.matrix):
                weight.sign_()
    return module


@pytest.mark.parametrize("network", NETWORKS)
def test_values_are_those_of_float64(network: str, networks: ModuleType) -> None:
    """Where signs are the same in both, as the test makes sure of."""
    module = made(networks, network)
    inputs = [torch.from_numpy(random_samples(shape, 6, 3)[:4]) for shape in module.shapes]
    _, taps = taped(module, inputs)
    found = analyse(module, inputs, taps, ROUNDINGS["fp32"])
    assert found.unknown == ()
    result, wide = taped(made(networks, network).double(), [x.double() for x in inputs])
    signs = [(tap.x, again.x) for tap, again in zip(taps, wide, strict=True) if isinstance(tap, BinarizeTap)]
    assert all(((x >= 0) == (again >= 0)).all() for x, again in signs)
    assert len(found.binarizations) == len(signs)
    for (value, bound), (x, again) in zip(found.binarizations, signs, strict=True):
        # Not to the last digit: BatchNorm's eps is taken as float32 has it.
        np.testing.assert_allclose(value, again, rtol=1e-9, atol=1e-9)
        assert (bound >= 0).all() and bound.max() <= 1e-4 * max(1.0, float(x.abs().max()))
    leaves = torch.utils._pytree.tree_leaves(result)
    for (value, _), expected in zip(found.outputs, leaves, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-9)


def test_what_is_given_goes_on_rounded_and_without_error(networks: ModuleType) -> None:
    """The bound behind a binarisation starts anew, and grows on without it."""
    module = networks.make("Residual")
    x = torch.from_numpy(random_samples(module.shapes[0], 6, 3))
    _, taps = taped(module, [x])
    (first, grown), (again, anew) = (
        analyse(module, [x], taps, ROUNDINGS["fp32"], given).binarizations for given in ((), (0,))
    )
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert (anew[1] < grown[1]).all()
    np.testing.assert_allclose(anew[0], grown[0], atol=1e-5)


def test_signs_are_those_that_were_recorded() -> None:
    """Whatever float64 would say of them."""

    class Net(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return binarize(x) * 3

    x = torch.tensor([1.0, -1.0])
    _, taps = taped(Net(), [x])
    found = analyse(Net(), [-x], taps, ROUNDINGS["fp32"])
    assert found.outputs[0][0].tolist() == [3.0, -3.0]
    assert found.binarizations[0][0].tolist() == [-1.0, 1.0]
