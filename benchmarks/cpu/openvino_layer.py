"""OpenVINO's binary convolution of a layer, where OpenVINO is installed. It has no scale and no residual: less work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from layer_models import Layer, weights


def openvino_run(layer: Layer, x: Any, threads: int) -> Callable[[], None] | None:
    """A function that runs the layer once, or None where there is no OpenVINO. x: [N, C, H, W] float32."""
    try:
        import openvino
        from openvino import opset8 as ops
    except ImportError:
        return None
    signs = weights(layer)
    bits = np.packbits(signs.ravel() > 0, bitorder="little")
    filters = openvino.op.Constant(openvino.Tensor(bits, openvino.Shape(list(signs.shape)), openvino.Type.u1))
    data = ops.parameter(list(x.shape), np.float32)
    ends = [ops.constant(np.full((1, 1, 1, 1), value, np.float32)) for value in (0.0, 0.0, 0.0, 1.0)]
    quantised = ops.fake_quantize(data, *ends, 2)
    strides, pads = [layer.stride] * 2, [layer.pad] * 2
    conv = ops.binary_convolution(quantised, filters, strides, pads, pads, [1, 1], "xnor-popcount", 0.0)
    options = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    request = openvino.Core().compile_model(openvino.Model([conv], [data]), "CPU", options).create_infer_request()
    request.set_input_tensor(openvino.Tensor(x))
    return request.infer
