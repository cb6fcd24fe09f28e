from __future__ import annotations

import pytest
import torch

from bnn_deploy.errors import InputRefused
from bnn_deploy.nn import checks


@pytest.mark.parametrize(("value", "pair"), [(2, (2, 2)), ((1, 3), (1, 3)), ([3, 1], (3, 1))])
def test_as_pair_takes_an_int_or_two(value: object, pair: tuple[int, int]) -> None:
    assert checks.as_pair("layer", "stride", value, minimum=1) == pair


@pytest.mark.parametrize("value", [0, -1, 1.0, True, None, (1,), (1, 2, 3), (1, 0), (1, "2")])
def test_as_pair_refuses_the_rest(value: object) -> None:
    with pytest.raises(InputRefused, match=r"layer: stride=.*wanted: a whole number of at least 1, or a pair"):
        checks.as_pair("layer", "stride", value, minimum=1)


@pytest.mark.parametrize("value", ["same", "valid", "ab"])
def test_as_pair_explains_a_string(value: str) -> None:
    with pytest.raises(InputRefused, match=f"padding='{value}'.*fix: write padding in pixels"):
        checks.as_pair("layer", "padding", value, minimum=0)


@pytest.mark.parametrize("value", [0, -3, 1.5, True, "4"])
def test_check_whole_refuses(value: object) -> None:
    with pytest.raises(InputRefused, match="layer: groups="):
        checks.check_whole("layer", "groups", value)


def test_check_feature_map() -> None:
    checks.check_feature_map("stem", torch.zeros(0, 3, 1, 1), 3)
    with pytest.raises(InputRefused, match=r"stem: .*\[3, 8, 8\].*unsqueeze"):
        checks.check_feature_map("stem", torch.zeros(3, 8, 8), 3)
    with pytest.raises(InputRefused, match=r"stem: .*which has 4 channels.*wanted: 3 channels"):
        checks.check_feature_map("stem", torch.zeros(1, 4, 8, 8), 3)


def test_check_features() -> None:
    checks.check_features("head", torch.zeros(5, 2, 3), 3)
    for shape in ((), (3, 1)):
        with pytest.raises(InputRefused, match=r"head: .*wanted: 3 features on the last axis.*flatten"):
            checks.check_features("head", torch.zeros(shape), 3)
