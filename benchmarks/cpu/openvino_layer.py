"""A layer in OpenVINO, where that is installed: the float32 and int8 models, and its own binary convolution."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from layer_models import Layer, float_model, int8_model, weights
from numpy.typing import NDArray

OPTIONS = {"NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}


def openvino_runs(
    layer: Layer, arrays: Mapping[str, NDArray[np.float32]], threads: int
) -> dict[str, Callable[[], object]]:
    """Name -> what runs the layer once; empty where there is no OpenVINO. arrays: x, and the residual, [N, ...].

    The binary convolution has no scale and no residual: less work than the others.
    """
    try:
        import openvino
    except ImportError:
        return {}
    core = openvino.Core()
    shapes = {name: list(array.shape) for name, array in arrays.items()}
    models = {}
    for name, content in (("float32", float_model(layer)), ("int8", int8_model(layer))):
        models[name] = core.read_model(content)
        models[name].reshape(shapes)
    models["binary"] = _binary_model(layer, list(arrays["x"].shape))
    runs: dict[str, Callable[[], object]] = {}
    for name, model in models.items():
        compiled = core.compile_model(model, "CPU", {**OPTIONS, "INFERENCE_NUM_THREADS": threads})
        request = compiled.create_infer_request()
        for port in compiled.inputs:
            request.set_tensor(port, openvino.Tensor(arrays[port.any_name]))
        runs[f"openvino {name}"] = request.infer
    return runs


def _binary_model(layer: Layer, shape: list[int]) -> Any:
    import openvino
    from openvino import opset8 as ops

    signs = weights(layer)
    bits = np.packbits(signs.ravel() > 0, bitorder="little")
    filters = openvino.op.Constant(openvino.Tensor(bits, openvino.Shape(list(signs.shape)), openvino.Type.u1))
    data = ops.parameter(shape, np.float32, name="x")
    data.output(0).set_names({"x"})
    ends = [ops.constant(np.full((1, 1, 1, 1), value, np.float32)) for value in (0.0, 0.0, 0.0, 1.0)]
    quantised = ops.fake_quantize(data, *ends, 2)
    strides, pads = [layer.stride] * 2, [layer.pad] * 2
    conv = ops.binary_convolution(quantised, filters, strides, pads, pads, [1, 1], "xnor-popcount", 0.0)
    return openvino.Model([conv], [data])
