"""Every bound holds: float32 computed in several orders, and with constants folded, is never further off."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bnn_deploy.error_analysis.bounded import ROUNDINGS, BoundedTensor, Ledger

Operation = Callable[[Tensor], Tensor]
GENERATOR = torch.Generator().manual_seed(0)


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=GENERATOR)


WEIGHT, BIAS, MATRIX = draw(5, 6, 3, 3), draw(5), draw(7, 6 * 25)
NORM = {"running_mean": draw(6), "running_var": draw(6).abs() + 0.01, "weight": draw(6), "bias": draw(6)}
OPERATIONS: dict[str, Operation] = {
    "convolution": lambda x: F.conv2d(x, WEIGHT, BIAS, stride=2, padding=1),
    "linear": lambda x: F.linear(x.flatten(1), MATRIX, draw(7) * 0 + 0.3),
    "matmul": lambda x: x @ draw(5, 4) * 0.5,
    "batch norm": lambda x: F.batch_norm(x, NORM["running_mean"], NORM["running_var"], NORM["weight"], NORM["bias"]),
    "prelu": lambda x: F.prelu(x, BIAS.new_tensor([0.25, -0.5, 2.0, 1.0, 0.0, -3.0])),
    "relu": torch.relu,
    "clamp": lambda x: x.clamp(-0.3, 0.7),
    "hardtanh": F.hardtanh,
    "average pool": lambda x: F.avg_pool2d(x, 2),
    "adaptive pool": lambda x: F.adaptive_avg_pool2d(x, 2),
    "mean": lambda x: x.mean(dim=(2, 3)),
    "sum": lambda x: x.sum(dim=1),
    "max pool": lambda x: F.max_pool2d(x, 3, 2, 1),
    "arithmetic": lambda x: (3.3 - x * 1.7 + BIAS[:1]) / 0.3,
    "concatenation": lambda x: torch.cat([x, x * 0.1], dim=1),
    "in place": lambda x: (x * 1.1).add_(0.1).mul_(x).relu_(),
    "a choice": lambda x: torch.where(x > 0, x, 0.1 * x),
    "padding": lambda x: F.pad(x, (1, 0, 2, 1), value=-1.0) * 0.9,
    "shapes": lambda x: (x * 0.7).permute(0, 2, 3, 1).reshape(2, -1).unsqueeze(1)[:, :, 3:40],
}


def bounded(x: Tensor, error: Tensor, precision: str = "fp32") -> BoundedTensor:
    return BoundedTensor(x.double(), error.double(), Ledger(ROUNDINGS[precision]))


@pytest.mark.parametrize("name", OPERATIONS)
@settings(max_examples=6)
@given(st.integers(0, 2**31), st.sampled_from([1e-20, 1e-3, 1.0, 1e10]), st.sampled_from([0.0, 1e-6]))
def test_the_bound_holds(name: str, seed: int, size: float, relative: float) -> None:
    """In PyTorch's float32, from operands anywhere within their own bounds; and it does not explode."""
    operation = OPERATIONS[name]
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 6, 5, 5, generator=generator) * size
    error = relative * x.abs().double()
    moved = (x.double() + error * (2 * torch.rand(x.shape, generator=generator) - 1) * 0.9).float()
    state = GENERATOR.get_state()
    with torch.no_grad():
        found = operation(bounded(x, error))
        GENERATOR.set_state(state)
        computed = operation(moved.clone())
    GENERATOR.set_state(state)
    assert isinstance(found, BoundedTensor) and found.shape == computed.shape
    gap = (computed.double() - found.value).abs()
    known = ~found.bound.isnan()
    # The operand itself was rounded to float32 when it was moved.
    assert (gap <= found.bound + 2**-23 * gap.new_tensor(size * 1e2 if relative else 0))[known].all()
    assert known.float().mean() > 0.9 if name != "a choice" or not relative else True


@pytest.mark.parametrize("name", ["convolution", "batch norm", "mean", "arithmetic"])
def test_float16_has_a_bound_of_its_own(name: str) -> None:
    x = torch.randn(2, 6, 5, 5, generator=torch.Generator().manual_seed(1)).half()
    state = GENERATOR.get_state()
    with torch.no_grad():
        found = OPERATIONS[name](bounded(x, torch.zeros(x.shape), "fp16"))
        exact = OPERATIONS[name](x.double().float())
    GENERATOR.set_state(state)
    assert ((exact.double().half().double() - found.value).abs() <= found.bound).all()
    assert (found.bound > 2**-12 * found.value.abs()).all()


def test_a_value_cut_off_for_certain_has_no_error() -> None:
    x = torch.tensor([[-1.0, -1e-9, 1e-9, 1.0]])
    found = torch.relu(bounded(x, torch.full_like(x, 1e-6)))
    assert found.bound[0, 0] == 0 and found.bound[0, 1] > 0 and found.bound[0, 3] > 0.99e-6


def test_a_step_within_reach_is_unknown() -> None:
    found = torch.round(bounded(torch.tensor([0.4, 0.4999999]), torch.tensor([1e-6, 1e-6])))
    assert found.bound[0] == 0 and found.bound[1].isnan()


def test_an_operator_without_a_rule_is_named_and_its_value_kept() -> None:
    x = bounded(torch.tensor([1.0, 2.0]), torch.zeros(2))
    found = torch.erf(x) + 1
    assert x.ledger.unknown == {"erf"} and found.bound.isnan().all()
    np.testing.assert_allclose(found.value, torch.erf(torch.tensor([1.0, 2.0]).double()) + 1)


def test_a_chain_of_roundings_is_counted() -> None:
    """Adding 1e-8 a thousand times to 1 in float32 changes nothing: off by 1e-5, and the bound says so."""
    x: Any = bounded(torch.ones(1), torch.zeros(1))
    computed = torch.ones(1)
    for _ in range(1000):
        x, computed = x + 1e-8, computed + 1e-8
    gap = float((computed.double() - x.value).abs())
    assert 9e-6 < gap <= float(x.bound) < 100 * gap
