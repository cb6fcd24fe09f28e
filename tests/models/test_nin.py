"""The zoo's network-in-network: the library's, with an input shape and a narrow default."""

from __future__ import annotations

import pytest
import torch

from bnn_deploy import nn as bnn
from bnn_deploy.errors import InputRefused
from bnn_deploy.models.nin import nin


def test_default_is_half_as_wide() -> None:
    with torch.device("meta"):
        model = nin()
    assert isinstance(model, bnn.NIN)
    shapes = [tuple(p.weight.shape) for p in model.modules() if isinstance(p, bnn.BinaryConv2d)]
    assert shapes == [
        (80, 96, 1, 1),
        (48, 80, 1, 1),
        (96, 48, 5, 5),
        (96, 96, 1, 1),
        (96, 96, 1, 1),
        (96, 96, 3, 3),
        (96, 96, 1, 1),
    ]


def test_it_is_the_librarys_network() -> None:
    torch.manual_seed(0)
    own = nin(num_classes=6, width=0.1, zero="zero").eval()
    other = bnn.NIN(6, width=0.1, config=bnn.BinarizeConfig(zero="zero")).eval()
    other.load_state_dict(own.state_dict())
    x = torch.randn(3, 3, 32, 32)
    assert torch.equal(own(x), other(x))
    assert own.input_shape == (3, 32, 32)


def test_an_impossible_width_is_refused() -> None:
    with pytest.raises(InputRefused, match="width=0"):
        nin(width=0)
