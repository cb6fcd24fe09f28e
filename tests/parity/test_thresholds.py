"""Integer bounds of layers that write bits alone: those of good files, and off by one where no sum is near."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from bnn_deploy.bits import Levels
from bnn_deploy.parity.thresholds import threshold_failures, wrong_channels
from bnn_deploy.runners.base import ChannelResponse

Deployed = Callable[..., Any]
TAPS = 9
EVERY = np.arange(-TAPS, TAPS + 1)
LOWER, UPPER = 2, 3


def edit(model: onnx.ModelProto, layer: str, operand: int, change: Callable[[Any], Any]) -> None:
    (node,) = [node for node in model.graph.node if node.name == layer]
    assert node.op_type == "PackedConv2dBits"
    (tensor,) = [tensor for tensor in model.graph.initializer if tensor.name == node.input[operand]]
    node.input[operand] = f"{layer}.changed.{operand}"  # under a name of its own: nodes may share a constant
    changed = change(numpy_helper.to_array(tensor).copy())
    model.graph.initializer.append(numpy_helper.from_array(changed, node.input[operand]))


def one_more_in_channel_3(bounds: Any) -> Any:
    bounds[3] += 1
    return bounds


@pytest.mark.parametrize("network", ["Assorted", "UnipolarChain", "Repeated"])
def test_those_of_a_good_file_are_right(network: str, deployed: Deployed) -> None:
    given = deployed(network)
    assert threshold_failures(given.proto(), given.record()) == []


@pytest.mark.parametrize(
    ("network", "layer"), [("Assorted", "grouped"), ("UnipolarChain", "first"), ("Repeated", "mine")]
)
def test_one_bound_off_by_one(network: str, layer: str, deployed: Deployed) -> None:
    """Whatever the inputs: one sample of zeros hits no edge."""
    given = deployed(network)
    recording = given.record({name: np.zeros_like(array[:1]) for name, array in given.feeds.items()})
    model = given.proto()
    edit(model, layer, LOWER, one_more_in_channel_3)
    (failure,) = threshold_failures(model, recording)
    assert failure.startswith(f"{layer}: the integer bounds of 1 of ") and "; channel 3 has " in failure


def test_bounds_exchanged(deployed: Deployed) -> None:
    given = deployed("Assorted")
    model = given.proto()
    lower: list[Any] = []
    edit(model, "grouped", LOWER, lambda bounds: (lower.append(bounds), np.full_like(bounds, -(2**31)))[1])
    edit(model, "grouped", UPPER, lambda _: lower[0])
    (failure,) = threshold_failures(model, given.record())
    assert failure.startswith("grouped: the integer bounds of ")


def bits_of(response: ChannelResponse, levels: Levels) -> Any:
    """The bit of every accumulator there can be, of one channel."""
    value = response.scale * EVERY + response.bias
    if response.prelu is not None:
        slope, shift = response.prelu
        value = np.where(value >= 0, value, slope * value) + shift
    return value >= 0 if levels is Levels.BIPOLAR else value > 0


@settings(max_examples=200)
@given(st.data())
def test_by_trying_every_accumulator(data: st.DataObject) -> None:
    """Of fractions that are exact in float64 and, as the bias has another remainder, never add up to 0."""
    quarters = st.integers(-40, 40).map(lambda number: np.array([number / 4 + 1 / 16]))
    prelu = data.draw(st.none() | st.tuples(quarters, quarters))
    levels = data.draw(st.sampled_from([Levels.BIPOLAR, Levels.TERNARY]))
    response = ChannelResponse(data.draw(quarters), data.draw(quarters) + 1 / 64, True, prelu)
    lower, upper = (np.array([data.draw(st.integers(-TAPS - 2, TAPS + 2))]) for _ in range(2))
    right = bits_of(response, levels)
    ones = np.flatnonzero(right)
    if len(ones) and len(ones) != ones[-1] - ones[0] + 1:
        return  # no interval: such a layer keeps its float epilogue
    agree = bool((np.logical_and(lower <= EVERY, upper >= EVERY) == right).all())
    assert bool(wrong_channels((lower, upper), response, TAPS, levels)[0]) == (not agree)


def test_within_rounding_either_bit_is_right() -> None:
    """3 * (1/3) - 1 is 0 but for rounding; a plain sum of 0 is 0."""
    third = ChannelResponse(np.array([1 / 3]), np.array([-1.0]))
    plain = ChannelResponse(np.array([1 / 3]), np.array([0.0]))
    top = np.array([2**31 - 1])
    for lower in (3, 4):
        assert not wrong_channels((np.array([lower]), top), third, TAPS, Levels.BIPOLAR).any()
    assert wrong_channels((np.array([2]), top), third, TAPS, Levels.BIPOLAR).all()
    assert not wrong_channels((np.array([0]), top), plain, TAPS, Levels.BIPOLAR).any()
    assert wrong_channels((np.array([1]), top), plain, TAPS, Levels.BIPOLAR).all()
