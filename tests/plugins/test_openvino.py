"""OpenVINO's own binary convolution as an independent judge of ours. Runs where OpenVINO is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bnn_deploy.bits import Levels

openvino = pytest.importorskip("openvino")


def openvino_conv(x: Any, weight: Any, stride: int, pad: int, pad_value: float) -> Any:
    """x: [N, C, H, W], weight: [O, C, KH, KW], both -1 or +1 -> [N, O, H', W'] float32.

    A bit of a weight is 1 for +1, the first of them in the least significant bit; FakeQuantize makes the activations
    the bits 0 and 1 that the operator takes for -1 and +1.
    """
    from openvino import opset8 as ops

    bits = np.packbits(weight.ravel() > 0, bitorder="little")
    filters = openvino.op.Constant(openvino.Tensor(bits, openvino.Shape(list(weight.shape)), openvino.Type.u1))
    data = ops.parameter(list(x.shape), np.float32)
    ends = [ops.constant(np.full((1, 1, 1, 1), value, np.float32)) for value in (0.0, 0.0, 0.0, 1.0)]
    quantised = ops.fake_quantize(data, *ends, 2)
    conv = ops.binary_convolution(
        quantised, filters, [stride] * 2, [pad] * 2, [pad] * 2, [1, 1], "xnor-popcount", pad_value
    )
    model = openvino.Core().compile_model(openvino.Model([conv], [data]), "CPU")
    return next(iter(model(x.astype(np.float32)).values()))


@pytest.mark.parametrize(("stride", "pad"), [(1, 0), (1, 1), (2, 1)])
@pytest.mark.parametrize("channels", [32, 64, 96])
def test_openvino_agrees(native: Any, toolbox: Any, kernels: str, channels: int, stride: int, pad: int) -> None:
    generator = np.random.default_rng(channels)
    x = toolbox.levels(generator, Levels.BIPOLAR, (1, channels, 9, 12))
    weight = toolbox.levels(generator, Levels.BIPOLAR, (16, channels, 3, 3))
    case = toolbox.ConvCase(Levels.BIPOLAR, x, weight, strides=(stride,) * 2, pads=(pad,) * 4)
    case.extra = {"scale": np.ones(16, np.float32), "bias": np.zeros(16, np.float32)}
    assert np.array_equal(case.run(native, kernels)["y"], openvino_conv(x, weight, stride, pad, 0.0))
