"""Numbers as the page shows them."""

from __future__ import annotations

import pytest

from bnn_deploy.html.numbers import bytes_of, clip, ratio, short, size_of
from bnn_deploy.inspection import TensorSize


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "unknown"),
        (0, "0"),
        (999, "999"),
        (1000, "1.00 k"),
        (12_345, "12.3 k"),
        (118_013_952, "118 M"),
        (1_814_073_344, "1.81 G"),
    ],
)
def test_short(value: float | None, text: str) -> None:
    assert short(value) == text


def test_bytes() -> None:
    assert [bytes_of(value) for value in (0, 20, 4_220_738, None)] == ["0 B", "20 B", "4.22 MB", "unknown"]


def test_ratio() -> None:
    assert [ratio(*pair) for pair in ((100, 9), (100, 50), (1, 0), (1000, 2))] == [
        "11.1x",
        "2.00x",
        "all of it",
        "500x",
    ]


def test_clip_keeps_both_ends() -> None:
    assert clip("layer1.0.conv", 13) == "layer1.0.conv"
    assert clip("layer1.0.binary_conv", 13) == "laye…ary_conv"
    assert all(len(clip("x" * 50, width)) == width for width in range(3, 50))


def test_size() -> None:
    assert size_of(None) == "of unknown size"
    assert size_of(TensorSize((1, 7, 7, 16), "int32", 3136, bits=True)) == "1x7x7x16 int32 of bits, 3.14 kB"
