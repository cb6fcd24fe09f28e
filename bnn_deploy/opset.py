"""The `bnn_deploy` operator set: names, attributes and versions. `docs/operators.md` has the full semantics.

Two levels. The training-level ops are what the modules emit when they are exported; they take real tensors. The
deploy-level ops are what the passes make of them; they take packed bits (see `bits`), but for `FLOAT_OPS`. Every op has
an ONNX function body (`functions/`), so a file that uses them runs where nobody has heard of this project.

No name here is the name of a standard ONNX op: TensorRT looks a function up by its name alone, without the domain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from bnn_deploy.bits import Levels

DOMAIN: Final = "bnn_deploy"
VERSION: Final = 1
ONNX_OPSET: Final = 20  # ONNX Runtime 1.17 and later, TensorRT 10 and later
ONNX_IR_VERSION: Final = 9  # likewise: the lowest that has this opset

# Training level. x and y are real tensors.
BINARIZE: Final = "Binarize"  # (x) -> y; levels, ste, clip, layer
BINARY_CONV2D: Final = "BinaryConv2d"  # (x, weight[, bias]) -> y
BINARY_LINEAR: Final = "BinaryLinear"  # (x, weight[, bias]) -> y
TRAINING_OPS: Final = (BINARIZE, BINARY_CONV2D, BINARY_LINEAR)

# Deploy level: pack a float tensor. (x[, threshold]) -> int32 words, channels last.
PACK_BIPOLAR: Final = "PackBipolar"
PACK_UNIPOLAR: Final = "PackUnipolar"
PACK_TERNARY: Final = "PackTernary"
PACK_OPS: Final = {Levels.BIPOLAR: PACK_BIPOLAR, Levels.UNIPOLAR: PACK_UNIPOLAR, Levels.TERNARY: PACK_TERNARY}

# Deploy level: 1-bit layers, (packed, weight, scale, bias) -> y, `y = scale[o] * accumulator + bias[o]`.
PACKED_CONV2D: Final = "PackedConv2d"
PACKED_TERNARY_CONV2D: Final = "PackedTernaryConv2d"
PACKED_LINEAR: Final = "PackedLinear"
PACKED_TERNARY_LINEAR: Final = "PackedTernaryLinear"

# Deploy level: 1-bit weights, float activations (W1A16). (x, weight, scale, bias) -> y.
BINARY_WEIGHT_CONV2D: Final = "BinaryWeightConv2d"
BINARY_WEIGHT_LINEAR: Final = "BinaryWeightLinear"

CONV_OPS: Final = (PACKED_CONV2D, PACKED_TERNARY_CONV2D, BINARY_WEIGHT_CONV2D)
LINEAR_OPS: Final = (PACKED_LINEAR, PACKED_TERNARY_LINEAR, BINARY_WEIGHT_LINEAR)
LAYER_OPS: Final = CONV_OPS + LINEAR_OPS
PACKED_LAYER_OPS: Final = (PACKED_CONV2D, PACKED_TERNARY_CONV2D, PACKED_LINEAR, PACKED_TERNARY_LINEAR)
DEPLOY_OPS: Final = (*PACK_OPS.values(), *LAYER_OPS)

# Metadata of a node that stands for more than itself: the names by which the parity harness knows what is in it.
PACK_NAME: Final = "bnn_deploy.pack"  # the binarisation that a fused layer absorbed, or that was made standard ops
LAYER_NAMES: Final = "bnn_deploy.layers"  # the layers that were merged, in the order of their outputs, with commas

# Metadata of a file: the type of everything in it that is not 1-bit. Absent where that is float32.
PRECISION: Final = "bnn_deploy.precision"
FP32: Final = "fp32"
FP16: Final = "fp16"

WEIGHT_SCALES: Final = ("none", "tensor", "channel")


class OccurrenceNames:
    """Unique node names that two rooms can derive independently.

    The graph and the harness that records PyTorch must agree on what the third call of a shared module is called,
    without talking to each other: the first call of `conv` is `conv`, the next `conv#2`, and so on in call order.
    """

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def __call__(self, name: str) -> str:
        """The name of the next occurrence of `name`."""
        self._seen[name] = self._seen.get(name, 0) + 1
        return name if self._seen[name] == 1 else f"{name}#{self._seen[name]}"


def binarize_node_name(layer: str) -> str:
    """The name of the node that binarises the input of `layer`, before it is made unique."""
    return f"{layer}/{BINARIZE}"


@dataclass(frozen=True)
class Epilogue:
    """What a packed convolution does behind its accumulator, in this order, all in float32:

    1. `z = scale[o] * accumulator`, then `z = z + bias[o]`
    2. `residual`: `z = z + residual`, a [N, O, H', W'] tensor
    3. `activation`: `PRelu`: `z = z if z >= 0 else slope[o] * z`, then `z = z + shift[o]`;
       `Clip`: `z = min(max(z, clip_low), clip_high)`
    4. `y = z`; `packs`: also `bits = lower[o] <= z <= upper[o]`, packed

    An op of its own for each combination: a function body has a fixed number of inputs.
    """

    residual: bool = False
    activation: str = ""
    packs: bool = False

    @property
    def op_type(self) -> str:
        """`PackedConv2d`, `PackedConv2dAddPRelu`, `PackedConv2dAddPack`..."""
        return f"{PACKED_CONV2D}{'Add' if self.residual else ''}{self.activation}{'Pack' if self.packs else ''}"

    @property
    def operands(self) -> tuple[str, ...]:
        """The inputs behind packed, weight, scale and bias, in order."""
        residual = ("residual",) if self.residual else ()
        activation = ("slope", "shift") if self.activation == PRELU else ()
        return residual + activation + (("lower", "upper") if self.packs else ())


PRELU: Final = "PRelu"
CLIP: Final = "Clip"
EPILOGUES: Final = {
    epilogue.op_type: epilogue
    for epilogue in (
        Epilogue(residual, activation, packs)
        for residual in (False, True)
        for activation in ("", PRELU, CLIP)
        for packs in (False, True)
    )
}
FUSED_CONV_OPS: Final = tuple(op_type for op_type in EPILOGUES if op_type != PACKED_CONV2D)

# Deploy level: bits in, bits out. (packed, weight, lower, upper) -> bits where lower[o] <= accumulator <= upper[o].
PACKED_CONV2D_BITS: Final = "PackedConv2dBits"
PACKED_LINEAR_BITS: Final = "PackedLinearBits"
BITS_OPS: Final = (PACKED_CONV2D_BITS, PACKED_LINEAR_BITS)
# The same ops on float16: x and `residual` are float16 and widened, y is float16, rounded once from the float32 that
# the op of the shorter name writes. Names of their own, because ONNX Runtime derives the type of a custom op's output
# from the types of its inputs alone, and most of these have no float16 input.
FLOAT16_SUFFIX: Final = "Fp16"
FLOAT16_OPS: Final = {op_type: f"{op_type}{FLOAT16_SUFFIX}" for op_type in (*LAYER_OPS, *FUSED_CONV_OPS)}
# Every op that holds 1-bit weights, fused or not.
WEIGHT_OPS: Final = (*LAYER_OPS, *FUSED_CONV_OPS, *FLOAT16_OPS.values(), *BITS_OPS)


def float32_op(op_type: str) -> str:
    """The op without its precision: what `PackedConv2dFp16` does is said of `PackedConv2d`."""
    return op_type.removesuffix(FLOAT16_SUFFIX)


# (x, lower, upper) -> bits where lower[c] <= x <= upper[c].
PACK_INTERVAL: Final = "PackInterval"
# (packed, flip) -> bits: flip ^ OR over the window of (packed ^ flip); AND for channels whose flip bit is 1.
PACKED_MAX_POOL2D: Final = "PackedMaxPool2d"

# Deploy level: what stands between 1-bit layers in float32. Only in files of `FP32`.
STEM_CONV2D_MAX_POOL: Final = "StemConv2dMaxPool"  # (x, weight, bias) -> y; pads
AVERAGE_POOL2D: Final = "AveragePool2d"  # (x) -> y; kernel_shape, strides
AVERAGE_POOL_CONV2D: Final = "AveragePoolConv2d"  # (x, weight [O, C, 1, 1], bias) -> y; kernel_shape, strides
FLOAT_OPS: Final = (STEM_CONV2D_MAX_POOL, AVERAGE_POOL2D, AVERAGE_POOL_CONV2D)
# A stem's pool has this window, in the attributes of ONNX; its convolution has these strides.
STEM_POOL: Final[Mapping[str, Any]] = {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1)}
STEM_STRIDES: Final = (2, 2)
# It has as many rows and columns as this, and no more input channels: the passes make no other stems, and the rounding
# analysis expects Winograd's method in these. In smaller kernels too few taps are left for it to pay, and with more
# channels the transforms outgrow a near cache.
STEM_KERNELS: Final = (7, 8)
STEM_MOST_CHANNELS: Final = 16
