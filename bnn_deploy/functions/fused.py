"""The fused deploy ops: a packed convolution with its epilogue, bits to bits, packed pooling."""

from __future__ import annotations

from bnn_deploy import opset
from bnn_deploy.functions.pieces import (
    ACCUMULATOR_LINES,
    BYTE_LINES,
    CONV_ATTRIBUTES,
    CONV_WEIGHT_LINES,
    LINEAR_WEIGHT_LINES,
    MASKS_LINE,
    TO_IMAGE,
    activation_lines,
    epilogue_lines,
    output_lines,
    pack_bits_lines,
    restore_shape_lines,
    unpack_lines,
    widen_lines,
)
from bnn_deploy.opset import CLIP, PRELU, Epilogue


def conv_body(epilogue: Epilogue, *, float16: bool = False) -> str:
    """A packed convolution with what `epilogue` says behind it."""
    name = opset.FLOAT16_OPS[epilogue.op_type] if float16 else epilogue.op_type
    clip = ", clip_low, clip_high" if epilogue.activation == CLIP else ""
    operands = "".join(f", {name}" for name in epilogue.operands)
    outputs = "y, bits" if epilogue.packs else "y"
    return f"""
    {name} <{CONV_ATTRIBUTES}, low{clip}> (packed, weight, scale, bias{operands}) => ({outputs}) {{
        {activation_lines(ternary=False, rank=4)}
        {TO_IMAGE}
        {CONV_WEIGHT_LINES}
        {ACCUMULATOR_LINES}
        {epilogue_lines("biased")}
        {_residual_lines(epilogue, float16)}
        {_ACTIVATION_LINES[epilogue.activation]}
        {output_lines("z", "y", "[0, 0, 0, -1]", float16=float16)}
        {_interval_lines("z", "bits", "scale") if epilogue.packs else ""}
    }}"""


def _residual_lines(epilogue: Epilogue, float16: bool) -> str:
    if not epilogue.residual:
        return "summed = Identity (biased)"
    if not float16:
        return "summed = Add (biased, residual)"
    return f"""
        {widen_lines("residual", "wide_residual", "[0, 0, 0, -1]")}
        summed = Add (biased, wide_residual)"""


_ACTIVATION_LINES = {
    "": "z = Identity (summed)",
    PRELU: """channel_slope = Reshape (slope, per_channel)
        channel_shift = Reshape (shift, per_channel)
        bent = PRelu (summed, channel_slope)
        z = Add (bent, channel_shift)""",
    CLIP: """clip_low = Constant <value_float: float = @clip_low> ()
        clip_high = Constant <value_float: float = @clip_high> ()
        z = Clip (summed, clip_low, clip_high)""",
}


def _inside_lines(values: str) -> str:
    """values: [N, O, *spatial] float32 -> inside: [N, O, P] bool; lower, upper: [1] or [O] float32."""
    return f"""
        rows_shape = Constant <value_ints = [0, 0, -1]> ()
        rows = Reshape ({values}, rows_shape)
        column = Constant <value_ints = [-1]> ()
        lower_column = Unsqueeze (lower, column)
        upper_column = Unsqueeze (upper, column)
        not_below = GreaterOrEqual (rows, lower_column)
        not_above = LessOrEqual (rows, upper_column)
        inside = And (not_below, not_above)"""


def _interval_lines(values: str, bits: str, per_output: str) -> str:
    """values: [N, O, *spatial] float -> bits: [N, *spatial, ceil(O / 32)]; lower, upper: [1] or [O] float.

    `per_output` names a tensor whose first axis is O.
    """
    return f"""
        {_inside_lines(values)}
        outputs_axis = Shape <start = 0, end = 1> ({per_output})
        outputs = Squeeze (outputs_axis)
        {pack_bits_lines("inside", "words", "Identity (outputs)")}
        {restore_shape_lines("words", bits, values)}"""


def _bits_conv_body() -> str:
    return f"""
    {opset.PACKED_CONV2D_BITS} <{CONV_ATTRIBUTES}, low> (packed, weight, lower_int, upper_int) => (bits) {{
        {activation_lines(ternary=False, rank=4)}
        {TO_IMAGE}
        {CONV_WEIGHT_LINES}
        {ACCUMULATOR_LINES}
        {_FLOAT_BOUNDS_LINES}
        {_interval_lines("accumulator", "bits", "weight")}
    }}"""


# Bounds of an accumulator are below 2**24 in magnitude, or say "always" and "never" from beyond it: exact in float32.
_FLOAT_BOUNDS_LINES = """
        lower = Cast <to = 1> (lower_int)
        upper = Cast <to = 1> (upper_int)"""


def _bits_linear_body() -> str:
    return f"""
    {opset.PACKED_LINEAR_BITS} <channels, low> (packed, weight, lower_int, upper_int) => (bits) {{
        {activation_lines(ternary=False, rank=2)}
        {LINEAR_WEIGHT_LINES}
        accumulator = Gemm <transB = 1> (x, w)
        {_FLOAT_BOUNDS_LINES}
        {_interval_lines("accumulator", "bits", "weight")}
    }}"""


def _pack_interval_body() -> str:
    """x: [N, C, *spatial], lower, upper: [1] or [C] float32 -> packed: [N, *spatial, ceil(C / 32)] int32."""
    return f"""
    {opset.PACK_INTERVAL} <channels> (x, lower, upper) => (packed) {{
        {widen_lines("x", "wide", "[0, 0, -1]")}
        {_inside_lines("wide")}
        {pack_bits_lines("inside", "words")}
        {restore_shape_lines("words", "packed")}
    }}"""


def _max_pool_body() -> str:
    """packed: [N, H, W, words], flip: [words] -> bits: [N, H', W', words].

    Unused high bits are 0 in `packed` and in `flip`, and stay so.
    """
    return f"""
    {opset.PACKED_MAX_POOL2D} <channels, kernel_shape, strides, pads> (packed, flip) => (bits) {{
        {BYTE_LINES}
        zero_level = Constant <value_float = 0.0> ()
        {unpack_lines("packed", "x_bits", "zero_level")}
        {unpack_lines("flip", "flip_bits", "zero_level")}
        wide_shape = Constant <value_ints = [0, 0, 0, -1]> ()
        x_wide = Reshape (x_bits, wide_shape)
        flat = Constant <value_ints = [-1]> ()
        flip_wide = Reshape (flip_bits, flat)
        apart = Sub (x_wide, flip_wide)
        turned = Abs (apart)
        image = Transpose <perm = [0, 3, 1, 2]> (turned)
        pooled_image = MaxPool <kernel_shape: ints = @kernel_shape, strides: ints = @strides, pads: ints = @pads> (
            image)
        pooled = Transpose <perm = [0, 2, 3, 1]> (pooled_image)
        pooled_apart = Sub (pooled, flip_wide)
        turned_back = Abs (pooled_apart)
        half = Constant <value_float = 0.5> ()
        set_bits = Greater (turned_back, half)
        grouped_shape = Constant <value_ints = [0, 0, 0, -1, 32]> ()
        grouped = Reshape (set_bits, grouped_shape)
        {MASKS_LINE}
        nothing = Constant <value = int32 {{ 0 }}> ()
        shifted = Where (grouped, masks, nothing)
        bit_axis = Constant <value_ints = [4]> ()
        bits = ReduceSum <keepdims = 0> (shifted, bit_axis)
    }}"""


def fused_bodies() -> dict[str, str]:
    """Op type -> body, in ONNX's text syntax without its header."""
    return {
        **{op_type: conv_body(opset.EPILOGUES[op_type]) for op_type in opset.FUSED_CONV_OPS},
        **{
            opset.FLOAT16_OPS[op_type]: conv_body(opset.EPILOGUES[op_type], float16=True)
            for op_type in opset.FUSED_CONV_OPS
        },
        opset.PACKED_CONV2D_BITS: _bits_conv_body(),
        opset.PACKED_LINEAR_BITS: _bits_linear_body(),
        opset.PACK_INTERVAL: _pack_interval_body(),
        opset.PACKED_MAX_POOL2D: _max_pool_body(),
    }
