"""The integer bounds of a file, against those that the PyTorch network's constants give.

A layer that writes bits alone holds two integers a channel, `lower <= accumulator <= upper`, for a whole epilogue. An
off-by-one there shows in no comparison of values until a sum happens to hit the edge. So the function that the bounds
stand for is evaluated at the edge, in float64, from the module: z = scale * accumulator + bias, a PReLU, and whether
what comes out is +1. Only where it lies within rounding of 0 may the float32 epilogue have decided either way.

With a slope of at least 0 that function rises or falls, with a negative one it turns once, at z = 0: two that agree on
both sides of each bound, at both ends of the range and at the turn agree everywhere.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from bnn_deploy.bits import Levels
from bnn_deploy.parity.compare import FLOAT32_ROUNDOFF
from bnn_deploy.parity.instrument import teacher_forced
from bnn_deploy.parity.points import LayerPoint, PackPoint
from bnn_deploy.runners.base import ChannelResponse, Recording

ROUNDINGS = 8  # of scale, product, bias, sum, product with the slope, shift, sum; one to spare

Bounds = tuple[NDArray[np.int64], NDArray[np.int64]]


def threshold_failures(model: onnx.ModelProto, recording: Recording) -> list[str]:
    """What is wrong with the integer bounds of the file, a line a layer, with the first channel.

    Layers of which the recording does not know what stands between accumulator and bit are left out.
    """
    variant = teacher_forced(model)
    arrays = {tensor.name: tensor for tensor in model.graph.initializer}
    written = {node.output[-1]: node for node in model.graph.node if node.output}
    records = {record.name: record for record in recording.layers}
    binarized = {record.name: record for record in recording.binarizations}
    failures = []
    for layer, point in _bits_alone(variant.layers, variant.packs):
        record = binarized.get(point.name)
        if record is None or record.source is None or (record.source[0],) != layer.names:
            continue
        name, response = record.source
        lower, upper = (
            numpy_helper.to_array(arrays[operand]).astype(np.int64) for operand in written[point.written].input[-2:]
        )
        if not response.alone or len(response.scale) != len(lower):
            continue
        wrong = wrong_channels((lower, upper), response, records[name].weight[0].size, record.levels)
        if wrong.any():
            first = int(wrong.argmax())
            failures.append(
                f"{name}: the integer bounds of {int(wrong.sum())} of {len(wrong)} channels are not those that the "
                f"PyTorch network's constants give; channel {first} has {lower[first]} to {upper[first]}"
            )
    return failures


def wrong_channels(bounds: Bounds, response: ChannelResponse, taps: int, levels: Levels) -> NDArray[np.bool_]:
    """The channels whose bounds tell another bit than `response` at some accumulator of -taps to taps, [O] bool.

    Args:
        bounds: (lower, upper), [O] each.
        response: Of the layer, up to what is binarised.
        taps: The largest magnitude of an accumulator.
        levels: What the network makes of it: +1 from 0 on (bipolar), or only above 0.
    """
    lower, upper = bounds
    with np.errstate(divide="ignore", invalid="ignore"):
        turn = np.nan_to_num(-response.bias / response.scale, nan=0.0, posinf=taps, neginf=-taps)
    ends = np.full_like(lower, taps)
    points = [-ends, ends, lower - 1, lower, upper, upper + 1, np.floor(turn), np.ceil(turn)]
    accumulator = np.clip(np.stack(points, axis=1), -taps, taps).astype(np.float64)  # [O, 8]
    value, reach = _evaluate(accumulator, response)
    bit = value >= 0 if levels is Levels.BIPOLAR else value > 0
    told = (lower[:, None] <= accumulator) & (accumulator <= upper[:, None])
    decided = (np.abs(value) > reach) | (reach == 0)
    return np.asarray(((bit != told) & decided).any(axis=1))


def _evaluate(
    accumulator: NDArray[np.float64], response: ChannelResponse
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The value that is binarised, and how far rounding in float32 may move it; accumulator: [O, points]."""
    scale, bias = response.scale[:, None], response.bias[:, None]
    product = scale * accumulator
    value, magnitude = product + bias, np.abs(product) + np.abs(bias)
    if response.prelu is not None:
        slope, shift = (array[:, None] for array in response.prelu)
        value = np.where(value >= 0, value, slope * value) + shift
        magnitude = np.maximum(1.0, np.abs(slope)) * magnitude + np.abs(shift)
    gamma = ROUNDINGS * FLOAT32_ROUNDOFF / (1 - ROUNDINGS * FLOAT32_ROUNDOFF)
    exact = (bias == 0) & (product == 0) & (value == 0)  # a sum of 0 without a bias: nothing is rounded
    return value, np.where(exact, 0.0, gamma * magnitude)


def _bits_alone(layers: tuple[LayerPoint, ...], packs: tuple[PackPoint, ...]) -> list[tuple[LayerPoint, PackPoint]]:
    """The layers that write bits and nothing else, each with the binarisation that it does."""
    conditions = {point.condition: point for point in packs}
    return [
        (layer, conditions[layer.accumulator])
        for layer in layers
        if not layer.output and layer.accumulator in conditions
    ]
