"""Parameter counts against closed formulas."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from bnn_deploy import nn as bnn
from bnn_deploy.errors import InputRefused
from bnn_deploy.models import catalogue
from bnn_deploy.models.summary import count_parameters, describe


def test_birealnet18_has_the_parameters_of_resnet18() -> None:
    # 11,689,512 is ResNet-18's count: the same convolutions, and BatchNorms, in another order.
    row = describe("birealnet18")
    binary = 9 * sum(a * b for a, b in ((64, 64), (64, 128), (128, 256), (256, 512)))
    binary += 9 * 3 * sum(w * w for w in (64, 128, 256, 512))
    assert row["parameters"] == 11_689_512
    assert row["binary_parameters"] == binary == 10_985_472
    assert row["one_bit_share"] == binary / 11_689_512


def test_reactnet_a() -> None:
    row = describe("reactnet")
    pairs = [32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024]
    binary = sum(9 * a * a + (a * a if a == b else 2 * a * a) for a, b in pairwise(pairs))
    assert row["binary_parameters"] == binary
    assert 29_300_000 < row["parameters"] < 29_400_000


@pytest.mark.parametrize("name", list(catalogue()))
def test_every_row_is_complete_and_plausible(name: str) -> None:
    row, entry = describe(name), catalogue()[name]
    assert list(row) == [
        "name",
        "input_shape",
        "parameters",
        "binary_parameters",
        "one_bit_share",
        "weights",
        "source",
        "description",
    ]
    assert 0.9 < row["one_bit_share"] < 1
    assert (row["name"], row["input_shape"], row["weights"]) == (name, entry.input_shape, entry.weights)
    assert "arXiv:" in row["source"] and row["description"]


def test_float_weights_do_not_count_as_binary() -> None:
    model = torch.nn.Sequential(
        bnn.BinaryConv2d(2, 3, 1, config=bnn.BinarizeConfig(bi_w_scale=-1)),
        bnn.BinaryLinear(4, 5, bias=True),
        bnn.RSign(7),
    )
    assert count_parameters(model) == (6 + 20 + 5 + 7, 20)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(InputRefused, match="did you mean nin"):
        describe("nim")
