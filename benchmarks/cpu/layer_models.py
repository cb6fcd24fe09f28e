"""One layer of a network, as the ONNX models that are compared: float32, int8 and 1 bit, all with a residual."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bnn_deploy import opset
from bnn_deploy.bits import pack_bits

ALIGNMENT = 64  # bytes


@dataclass(frozen=True)
class Layer:
    """A square convolution without bias."""

    channels: int
    outputs: int
    size: int
    kernel: int = 3
    stride: int = 1

    @property
    def pad(self) -> int:
        """The padding on each side."""
        return self.kernel // 2

    @property
    def out_size(self) -> int:
        """Height and width of the output."""
        return (self.size + 2 * self.pad - self.kernel) // self.stride + 1

    @property
    def products(self) -> int:
        """Multiplications of one image."""
        return self.channels * self.outputs * self.kernel**2 * self.out_size**2

    @property
    def geometry(self) -> dict[str, list[int]]:
        """The attributes of an ONNX `Conv`."""
        return {"strides": [self.stride] * 2, "pads": [self.pad] * 4, "kernel_shape": [self.kernel] * 2}

    def __str__(self) -> str:
        stride = f"/{self.stride}" if self.stride > 1 else ""
        return f"{self.channels}->{self.outputs} {self.kernel}x{self.kernel}{stride} @{self.size}"


BIREALNET18 = (
    Layer(64, 64, 56),
    Layer(64, 128, 56, stride=2),
    Layer(128, 128, 28),
    Layer(128, 256, 28, stride=2),
    Layer(256, 256, 14),
    Layer(256, 512, 14, stride=2),
    Layer(512, 512, 7),
)


def weights(layer: Layer) -> NDArray[np.int8]:
    """[O, C, K, K], -1 or +1."""
    shape = (layer.outputs, layer.channels, layer.kernel, layer.kernel)
    return np.random.default_rng(0).choice(np.array([-1, 1], np.int8), shape)


def scales(layer: Layer) -> NDArray[np.float32]:
    """[O]."""
    return np.random.default_rng(1).uniform(0.01, 0.05, layer.outputs).astype(np.float32)


def aligned(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """A copy that begins at a multiple of 64 bytes, as memory of ONNX Runtime and OpenVINO does. NumPy's own need not,
    and then every vector that is read or written crosses a line of the cache."""
    memory = np.empty(array.nbytes + ALIGNMENT, np.uint8)
    first = -memory.ctypes.data % ALIGNMENT
    copy = memory[first : first + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def feeds(layer: Layer, batch: int) -> dict[str, NDArray[np.float32]]:
    """x: [N, C, H, W], residual: [N, O, H', W'], both aligned."""
    generator = np.random.default_rng(2)
    x = generator.standard_normal((batch, layer.channels, layer.size, layer.size))
    residual = generator.standard_normal((batch, layer.outputs, layer.out_size, layer.out_size))
    return {"x": aligned(x.astype(np.float32)), "residual": aligned(residual.astype(np.float32))}


def _model(layer: Layer, nodes: list[onnx.NodeProto], constants: dict[str, NDArray]) -> bytes:
    """A model of `x` and `residual` to `y`."""
    shapes = {
        "x": ["N", layer.channels, layer.size, layer.size],
        "residual": ["N", layer.outputs, layer.out_size, layer.out_size],
    }
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, shapes["residual"])]
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "layer", inputs, outputs, initializers)
    domains = [helper.make_opsetid("", opset.ONNX_OPSET), helper.make_opsetid(opset.DOMAIN, opset.VERSION)]
    return helper.make_model(graph, opset_imports=domains, ir_version=9).SerializeToString()


def float_model(layer: Layer) -> bytes:
    """A float32 convolution with ±alpha weights and the residual; its input is not even binarised."""
    constants = {"w": weights(layer) * scales(layer)[:, None, None, None], "b": np.zeros(layer.outputs, np.float32)}
    conv = helper.make_node("Conv", ["x", "w", "b"], ["z"], **layer.geometry)
    return _model(layer, [conv, helper.make_node("Add", ["z", "residual"], ["y"])], constants)


def int8_model(layer: Layer) -> bytes:
    """Quantise to uint8, convolve with int8 weights, dequantise, add the residual.

    Written as pairs of QuantizeLinear and DequantizeLinear around a convolution, which ONNX Runtime and OpenVINO both
    make one integer kernel of.
    """
    constants = {
        "w": weights(layer) * np.int8(127),
        "x_scale": np.float32(0.03),
        "x_zero": np.uint8(128),
        "w_scale": scales(layer) / np.float32(127),
        "w_zero": np.zeros(layer.outputs, np.int8),
        "y_scale": np.float32(0.05),
        "y_zero": np.uint8(128),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "x_scale", "x_zero"], ["x_q"]),
        helper.make_node("DequantizeLinear", ["x_q", "x_scale", "x_zero"], ["x_d"]),
        helper.make_node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["w_d"], axis=0),
        helper.make_node("Conv", ["x_d", "w_d"], ["y_d"], **layer.geometry),
        helper.make_node("QuantizeLinear", ["y_d", "y_scale", "y_zero"], ["y_q"]),
        helper.make_node("DequantizeLinear", ["y_q", "y_scale", "y_zero"], ["z"]),
        helper.make_node("Add", ["z", "residual"], ["y"]),
    ]
    return _model(layer, nodes, {name: np.asarray(array) for name, array in constants.items()})


def binary_model(layer: Layer) -> bytes:
    """Pack the signs, convolve bits, scale, add the residual: our operators, for the native library."""
    constants = {
        "threshold": np.zeros(1, np.float32),
        "w": pack_bits(np.moveaxis(weights(layer), 1, -1) > 0),
        "scale": scales(layer),
        "bias": np.zeros(layer.outputs, np.float32),
    }
    pack = helper.make_node(
        opset.PACK_BIPOLAR, ["x", "threshold"], ["bits"], domain=opset.DOMAIN, channels=layer.channels
    )
    conv = helper.make_node(
        opset.PACKED_CONV2D + "Add",
        ["bits", "w", "scale", "bias", "residual"],
        ["y"],
        domain=opset.DOMAIN,
        channels=layer.channels,
        low=-1.0,
        strides=[layer.stride] * 2,
        pads=[layer.pad] * 4,
        dilations=[1, 1],
        group=1,
        pad_value=0.0,
    )
    return _model(layer, [pack, conv], constants)
