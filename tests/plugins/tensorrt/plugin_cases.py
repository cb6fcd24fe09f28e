"""Nodes of every op that the plugin serves: attributes, random inputs, and what has to come out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from conv_cases import EDGES, VALUES, finish, packed_within, round_to, with_edges
from driver import Conv2d
from numpy.typing import NDArray
from onnx import helper
from plugin_host import Tensor

from bnn_deploy import opset
from bnn_deploy.bits import Levels, pack_bits, pack_levels, words_for
from bnn_deploy.functions import function_body
from bnn_deploy.reference import Geometry, accumulate_conv2d, accumulate_linear

Array = NDArray[Any]
# All that a GPU has a kernel for.
OPS = (
    *opset.PACK_OPS.values(),
    opset.PACK_INTERVAL,
    opset.PACKED_MAX_POOL2D,
    *(op for op in opset.WEIGHT_OPS if not op.startswith("BinaryWeight")),
)
PACKS = (*opset.PACK_OPS.values(), opset.PACK_INTERVAL)
WEIGHTED = tuple(op for op in OPS if op in opset.WEIGHT_OPS)
CONVOLUTIONS = tuple(op for op in WEIGHTED if "Linear" not in op)
ELEMENT = {np.dtype(name): helper.np_dtype_to_tensor_dtype(np.dtype(name)) for name in ("f2", "f4", "i4")}


@dataclass(frozen=True)
class Sizes:
    """Of a node. Those that its op does not have are left out.

    Attributes:
        image: Height and width of what it reads.
        low: The lesser level of an activation.
    """

    batch: int = 2
    channels: int = 70
    outputs: int = 40
    image: tuple[int, int] = (7, 9)
    kernel: tuple[int, int] = (3, 3)
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (1, 1, 1, 1)
    dilations: tuple[int, int] = (1, 1)
    group: int = 1
    pad_value: int = 0
    low: int = -1

    def places(self) -> tuple[int, int]:
        """H', W'."""
        layer = Conv2d(self.channels, strides=self.strides, pads=self.pads, dilations=self.dilations)
        return layer.out_size((0, *self.image, 0), (0, *self.kernel, 0))


# Nothing square, nothing by default, everything ragged.
ODD = Sizes(3, 33, 37, (9, 8), (2, 3), (2, 1), (1, 2, 0, 1), (1, 2), 1, -1, 0)
# As in networks: words and vectors without gaps.
EVEN = Sizes(2, 64, 64, (8, 8), strides=(2, 2))


@dataclass(frozen=True)
class Case:
    """A node and its inputs.

    Attributes:
        inputs: By the names of the function body, in its order; real ones channels first.
        levels: What the int8 `x` and `weight` of a layer hold.
        x: [N, C, *spatial] int8, the levels that `packed` holds.
        weight: [O, C / group, *kernel] int8, the signs.
    """

    op: str
    sizes: Sizes
    inputs: dict[str, Array]
    levels: Levels = Levels.BIPOLAR
    x: Array = field(default_factory=lambda: np.empty(0))
    weight: Array = field(default_factory=lambda: np.empty(0))

    @property
    def linear(self) -> bool:
        """Whether it is a fully connected layer."""
        return "Linear" in self.op

    @property
    def real(self) -> np.dtype[Any]:
        """The type of the residual and of y."""
        return np.dtype(np.float16 if self.op.endswith(opset.FLOAT16_SUFFIX) else np.float32)

    @property
    def epilogue(self) -> opset.Epilogue:
        """What follows the accumulator."""
        return opset.EPILOGUES.get(opset.float32_op(self.op), opset.Epilogue())

    @property
    def arrays(self) -> list[Array]:
        """The inputs, in order."""
        return list(self.inputs.values())

    @property
    def tensors(self) -> list[Tensor]:
        """The inputs as TensorRT describes them."""
        return [Tensor.of(array) for array in self.inputs.values()]

    def attributes(self) -> dict[str, Any]:
        """As an ONNX node has them."""
        sizes = self.sizes
        every = {
            "channels": sizes.channels,
            "strides": list(sizes.strides),
            "pads": list(sizes.pads),
            "dilations": list(sizes.dilations),
            "group": sizes.group,
            "pad_value": float(sizes.pad_value),
            "low": float(sizes.low),
            "kernel_shape": list(sizes.kernel),
            "clip_low": -3.0,
            "clip_high": 2.5,
        }
        return {name: every[name] for name in function_body(self.op).attribute}

    def fields(self, **changed: Any) -> dict[str, Array]:
        """As TensorRT's parser hands them to a plugin. None leaves an attribute out."""
        values = {**self.attributes(), **changed}
        return {name: as_field(value) for name, value in values.items() if value is not None}

    def model(self) -> onnx.ModelProto:
        """The node alone, with its function body."""
        body = function_body(self.op)
        names = ["out_" + name for name in body.output]
        node = helper.make_node(self.op, list(self.inputs), names, "node", domain=opset.DOMAIN, **self.attributes())
        graph = helper.make_graph(
            [node],
            "one node",
            [
                helper.make_tensor_value_info(name, ELEMENT[array.dtype], array.shape)
                for name, array in self.inputs.items()
            ],
            [
                helper.make_tensor_value_info(name, ELEMENT[self.real if name == "out_y" else np.dtype("i4")], None)
                for name in names
            ],
        )
        imports = [helper.make_opsetid("", opset.ONNX_OPSET), helper.make_opsetid(opset.DOMAIN, opset.VERSION)]
        return helper.make_model(graph, opset_imports=imports, ir_version=opset.ONNX_IR_VERSION, functions=[body])

    def expected(self) -> list[Array]:
        """The outputs of a weighted op as `docs/operators.md` states them, in NumPy; NaN and infinities included."""
        sums = self.accumulators()
        e = {name: array for name, array in self.inputs.items() if name not in ("packed", "weight")}
        if self.op in opset.BITS_OPS:
            return [self._flat(packed_within(e["lower_int"], sums, e["upper_int"]))]
        z = finish(
            sums,
            {name: array for name, array in e.items() if name not in ("lower", "upper")},
            self.epilogue.activation,
            (-3.0, 2.5),
        )
        y = round_to(self.real.type, z)
        outputs = [y[:, :, 0, 0] if self.linear else y]
        if self.epilogue.packs:
            outputs.append(packed_within(e["lower"], z, e["upper"]))
        return outputs

    def accumulators(self) -> Array:
        """[N, O, H', W'] int32; a fully connected layer's are [N, O, 1, 1]."""
        if self.linear:
            return accumulate_linear(self.x, self.weight)[:, :, None, None]
        s = self.sizes
        geometry = Geometry(s.strides, s.pads, s.dilations, s.group, float(s.pad_value))
        return accumulate_conv2d(self.x, self.weight, geometry)

    def _flat(self, bits: Array) -> Array:
        return bits[:, 0, 0, :] if self.linear else bits


def as_field(value: Any) -> Array:
    """One-dimensional: int64 or float32, as an ONNX file has numbers."""
    array = np.atleast_1d(np.asarray(value))
    return array.astype(np.float32 if array.dtype.kind == "f" else np.int64)


def random_case(op: str, generator: np.random.Generator, sizes: Sizes = Sizes(), *, edges: bool = False) -> Case:
    """A node with random inputs. edges: every other real value is a zero, a NaN, an infinity, a subnormal..."""
    if op in PACKS:
        return _pack_case(op, generator, sizes, edges)
    if op == opset.PACKED_MAX_POOL2D:
        return _pool_case(generator, sizes)
    return _layer_case(op, generator, sizes, edges)


def _real(generator: np.random.Generator, shape: tuple[int, ...], edges: bool) -> Array:
    return with_edges(generator, shape) if edges else generator.standard_normal(shape).astype(np.float32)


def _pack_case(op: str, generator: np.random.Generator, sizes: Sizes, edges: bool) -> Case:
    channels = sizes.channels
    thresholds = 1 if channels % 2 else channels  # one for all channels, or one for each
    inputs = {"x": _real(generator, (sizes.batch, channels, *sizes.image), edges)}
    if op == opset.PACK_INTERVAL:
        inputs["lower"] = generator.standard_normal(thresholds).astype(np.float32) - np.float32(1)
        inputs["upper"] = generator.standard_normal(1 + channels - thresholds).astype(np.float32) + np.float32(1)
    elif op != opset.PACK_TERNARY:
        inputs["threshold"] = generator.choice(EDGES[EDGES == EDGES], thresholds).astype(np.float32)
    return Case(op, sizes, inputs)


def _pool_case(generator: np.random.Generator, sizes: Sizes) -> Case:
    sizes = replace(sizes, dilations=(1, 1))
    bits = generator.random((sizes.batch, *sizes.image, sizes.channels)) < 0.5
    flip = generator.random(sizes.channels) < 0.5
    return Case(opset.PACKED_MAX_POOL2D, sizes, {"packed": pack_bits(bits), "flip": pack_bits(flip)})


def _layer_case(op: str, generator: np.random.Generator, sizes: Sizes, edges: bool) -> Case:
    linear = "Linear" in op
    binary = Levels.BIPOLAR if sizes.low == -1 else Levels.UNIPOLAR
    levels = Levels.TERNARY if "Ternary" in op else binary
    spatial, kernel = ((), ()) if linear else (sizes.image, sizes.kernel)
    group = 1 if linear else sizes.group
    x = generator.choice(np.array(VALUES[levels], np.int8), (sizes.batch, sizes.channels, *spatial))
    weight = generator.choice(np.array((-1, 1), np.int8), (sizes.outputs, sizes.channels // group, *kernel))
    case = Case(op, sizes, {}, levels, x, weight)
    known: Mapping[str, Array] = {
        "packed": pack_levels(np.ascontiguousarray(np.moveaxis(x, 1, -1)), levels),
        "weight": pack_bits(np.ascontiguousarray(np.moveaxis(weight, 1, -1)) > 0),
        "lower_int": generator.integers(-9, 1, sizes.outputs, np.int32),
        "upper_int": generator.integers(0, 9, sizes.outputs, np.int32),
    }
    for name in function_body(op).input:
        if name in known:
            case.inputs[name] = known[name]
        elif name == "residual":
            residual = _real(generator, (sizes.batch, sizes.outputs, *sizes.places()), edges)
            case.inputs[name] = round_to(case.real.type, residual)
        else:
            middle = {"lower": -4.0, "upper": 4.0}.get(name, 0.0)
            case.inputs[name] = _real(generator, (sizes.outputs,), edges) + np.float32(middle)
    return case


def packed_words(channels: int, op: str) -> int:
    """Words of one packed pixel that the op reads or, of a pack, writes."""
    return words_for(channels) * (2 if "Ternary" in op else 1)
