"""The ONNX function body of every deploy op: what a runtime runs that has no kernel of ours.

Written in ONNX's own text syntax, so that a body reads as it will run. Each uses standard ops only. Three rules keep the
bodies exact and let ONNX Runtime keep them so:

- A convolution of ±1 values in float32 sums integers below 2**24, so the float accumulator *is* the integer one.
- The scale is the left operand: `Mul(scale, accumulator)`. ONNX Runtime folds `Mul(conv, scale)` into the weights,
  after which the sums are no longer integers and outputs near 0 change sign.
- The true number of channels is an attribute, and the unused high bits of the last word are sliced off.

Bodies carry no opset version of their own: they run under the model's (`opset.ONNX_OPSET`).
"""

from __future__ import annotations

from functools import cache

import onnx
import onnx.parser

from bnn_deploy import opset

# The value of each bit of a word. Bit 31 is the sign bit of an int32.
_MASKS = ", ".join(str(1 << bit) for bit in range(31)) + ", " + str(-(1 << 31))
_MASKS_LINE = f"masks = Constant <value = int32[32] {{ {_MASKS} }}> ()"


def _pack_body(name: str, compare: str) -> str:
    """x: [N, C, *spatial] float, threshold: [1] or [C] float -> packed: [N, *spatial, ceil(C / 32)] int32."""
    return f"""
    {name} <channels> (x, threshold) => (packed) {{
        rows_shape = Constant <value_ints = [0, 0, -1]> ()
        rows = Reshape (x, rows_shape)
        last = Constant <value_ints = [-1]> ()
        column = Unsqueeze (threshold, last)
        bits = {compare} (rows, column)
        {_pack_bits_lines("bits", "words")}
        {_restore_shape_lines("words", "packed")}
    }}"""


def _pack_ternary_body() -> str:
    """x: [N, C, *spatial] float -> packed: [N, *spatial, 2 * ceil(C / 32)] int32, plane P then plane N."""
    return f"""
    {opset.PACK_TERNARY} <channels> (x) => (packed) {{
        rows_shape = Constant <value_ints = [0, 0, -1]> ()
        rows = Reshape (x, rows_shape)
        origin_float = Constant <value_float = 0.0> ()
        origin = CastLike (origin_float, x)
        positive = Greater (rows, origin)
        not_negative = GreaterOrEqual (rows, origin)
        negative = Not (not_negative)
        {_pack_bits_lines("positive", "positive_words")}
        {_pack_bits_lines("negative", "negative_words")}
        words = Concat <axis = 2> (positive_words, negative_words)
        {_restore_shape_lines("words", "packed")}
    }}"""


def _pack_bits_lines(bits: str, words: str) -> str:
    """bits: [N, C, P] bool -> words: [N, P, ceil(C / 32)] int32. Pads C to whole words with zero bits."""
    p = words  # a prefix that keeps the lines of two planes apart
    return f"""
        {p}_channels = Constant <value_int: int = @channels> ()
        {p}_word = Constant <value_int = 32> ()
        {p}_negated = Neg ({p}_channels)
        {p}_missing = Mod ({p}_negated, {p}_word)
        {p}_no_pad = Constant <value_int = 0> ()
        {p}_axis0 = Constant <value_ints = [0]> ()
        {p}_begin = Unsqueeze ({p}_no_pad, {p}_axis0)
        {p}_end = Unsqueeze ({p}_missing, {p}_axis0)
        {p}_pads = Concat <axis = 0> ({p}_begin, {p}_end)
        {p}_last_axis = Constant <value_ints = [2]> ()
        {p}_channels_last = Transpose <perm = [0, 2, 1]> ({bits})
        {p}_unset = Constant <value = bool {{ 0 }}> ()
        {p}_padded = Pad <mode = "constant"> ({p}_channels_last, {p}_pads, {p}_unset, {p}_last_axis)
        {p}_grouped_shape = Constant <value_ints = [0, 0, -1, 32]> ()
        {p}_grouped = Reshape ({p}_padded, {p}_grouped_shape)
        {p}_{_MASKS_LINE}
        {p}_nothing = Constant <value = int32 {{ 0 }}> ()
        {p}_shifted = Where ({p}_grouped, {p}_masks, {p}_nothing)
        {p}_bit_axis = Constant <value_ints = [3]> ()
        {words} = ReduceSum <keepdims = 0> ({p}_shifted, {p}_bit_axis)"""


def _restore_shape_lines(words: str, packed: str) -> str:
    """words: [N, P, W] -> packed: [N, *spatial, W]; x: [N, C, *spatial] gives the sizes."""
    return f"""
        batch = Shape <start = 0, end = 1> (x)
        spatial = Shape <start = 2> (x)
        word_count = Constant <value_ints = [-1]> ()
        packed_shape = Concat <axis = 0> (batch, spatial, word_count)
        {packed} = Reshape ({words}, packed_shape)"""


def _unpack_lines(packed: str, values: str, low: str) -> str:
    """packed: [..., W] int32 -> values: [..., W, 32] float, `low` where a bit is 0 and 1.0 where it is 1."""
    p = values
    return f"""
        {p}_last = Constant <value_ints = [-1]> ()
        {p}_words = Unsqueeze ({packed}, {p}_last)
        {p}_{_MASKS_LINE}
        {p}_hits = BitwiseAnd ({p}_words, {p}_masks)
        {p}_nothing = Constant <value = int32 {{ 0 }}> ()
        {p}_unset = Equal ({p}_hits, {p}_nothing)
        {p}_high = Constant <value_float = 1.0> ()
        {values} = Where ({p}_unset, {low}, {p}_high)"""


def _activation_lines(ternary: bool, rank: int) -> str:
    """packed: [N, H, W, words] (rank 4) or [N, words] (rank 2) -> x: the same with true channels, float."""
    keep = ", ".join("0" for _ in range(rank - 1))
    if ternary:
        return f"""
        zero_level = Constant <value_float = 0.0> ()
        {_unpack_lines("packed", "x_bits", "zero_level")}
        planes_shape = Constant <value_ints = [{keep}, 2, -1]> ()
        planes = Reshape (x_bits, planes_shape)
        plane_signs = Constant <value = float[2, 1] {{ 1.0, -1.0 }}> ()
        signed_planes = Mul (planes, plane_signs)
        plane_axis = Constant <value_ints = [{rank - 1}]> ()
        x_wide = ReduceSum <keepdims = 0> (signed_planes, plane_axis)
        {_slice_channels_lines("x_wide", "x", "value_int: int = @channels", rank - 1)}"""
    return f"""
        low_level = Constant <value_float: float = @low> ()
        {_unpack_lines("packed", "x_bits", "low_level")}
        x_flat_shape = Constant <value_ints = [{keep}, -1]> ()
        x_wide = Reshape (x_bits, x_flat_shape)
        {_slice_channels_lines("x_wide", "x", "value_int: int = @channels", rank - 1)}"""


def _slice_channels_lines(wide: str, sliced: str, count: str, axis: int, divisor: str = "") -> str:
    """Drops the bits beyond the true channels. `divisor`, where given, is a scalar int64 to divide the count by."""
    p = sliced
    divide = f"{p}_stop = Div ({p}_count, {divisor})" if divisor else f"{p}_stop = Identity ({p}_count)"
    return f"""
        {p}_count = Constant <{count}> ()
        {divide}
        {p}_axis0 = Constant <value_ints = [0]> ()
        {p}_stops = Unsqueeze ({p}_stop, {p}_axis0)
        {p}_axis = Constant <value_ints = [{axis}]> ()
        {sliced} = Slice ({wide}, {p}_axis0, {p}_stops, {p}_axis)"""


_CONV_WEIGHT_LINES = f"""
        low_weight = Constant <value_float = -1.0> ()
        {_unpack_lines("weight", "w_bits", "low_weight")}
        w_flat_shape = Constant <value_ints = [0, 0, 0, -1]> ()
        w_wide = Reshape (w_bits, w_flat_shape)
        groups = Constant <value_int: int = @group> ()
        {_slice_channels_lines("w_wide", "w_last", "value_int: int = @channels", 3, "groups")}
        w = Transpose <perm = [0, 3, 1, 2]> (w_last)"""

_LINEAR_WEIGHT_LINES = f"""
        low_weight = Constant <value_float = -1.0> ()
        {_unpack_lines("weight", "w_bits", "low_weight")}
        w_flat_shape = Constant <value_ints = [0, -1]> ()
        w_wide = Reshape (w_bits, w_flat_shape)
        {_slice_channels_lines("w_wide", "w", "value_int: int = @channels", 1)}"""

_CONV_LINES = """
        pads = Constant <value_ints: ints = @pads> ()
        pad_value = Constant <value_float: float = @pad_value> ()
        pad_axes = Constant <value_ints = [2, 3]> ()
        framed = Pad <mode = "constant"> (image, pads, pad_value, pad_axes)
        accumulator = Conv <strides: ints = @strides, dilations: ints = @dilations, group: int = @group> (framed, w)
        per_channel = Constant <value_ints = [-1, 1, 1]> ()
        channel_scale = Reshape (scale, per_channel)
        channel_bias = Reshape (bias, per_channel)
        scaled = Mul (channel_scale, accumulator)
        y = Add (scaled, channel_bias)"""

_LINEAR_LINES = """
        accumulator = Gemm <transB = 1> (x, w)
        scaled = Mul (scale, accumulator)
        y = Add (scaled, bias)"""

_CONV_ATTRIBUTES = "channels, strides, pads, dilations, group, pad_value"


def _bodies() -> dict[str, str]:
    to_image = "image = Transpose <perm = [0, 3, 1, 2]> (x)"
    bodies = {
        opset.PACK_BIPOLAR: _pack_body(opset.PACK_BIPOLAR, "GreaterOrEqual"),
        opset.PACK_UNIPOLAR: _pack_body(opset.PACK_UNIPOLAR, "Greater"),
        opset.PACK_TERNARY: _pack_ternary_body(),
        opset.BINARY_WEIGHT_CONV2D: f"""
    {opset.BINARY_WEIGHT_CONV2D} <{_CONV_ATTRIBUTES}> (image, weight, scale, bias) => (y) {{
        {_CONV_WEIGHT_LINES}
        {_CONV_LINES}
    }}""",
        opset.BINARY_WEIGHT_LINEAR: f"""
    {opset.BINARY_WEIGHT_LINEAR} <channels> (x, weight, scale, bias) => (y) {{
        {_LINEAR_WEIGHT_LINES}
        {_LINEAR_LINES}
    }}""",
    }
    for conv, linear, ternary in (
        (opset.PACKED_CONV2D, opset.PACKED_LINEAR, False),
        (opset.PACKED_TERNARY_CONV2D, opset.PACKED_TERNARY_LINEAR, True),
    ):
        low = "" if ternary else ", low"
        bodies[conv] = f"""
    {conv} <{_CONV_ATTRIBUTES}{low}> (packed, weight, scale, bias) => (y) {{
        {_activation_lines(ternary, rank=4)}
        {to_image}
        {_CONV_WEIGHT_LINES}
        {_CONV_LINES}
    }}"""
        bodies[linear] = f"""
    {linear} <channels{low}> (packed, weight, scale, bias) => (y) {{
        {_activation_lines(ternary, rank=2)}
        {_LINEAR_WEIGHT_LINES}
        {_LINEAR_LINES}
    }}"""
    return bodies


@cache
def function_body(op_type: str) -> onnx.FunctionProto:
    """The function body of a deploy op.

    Args:
        op_type: One of `opset.DEPLOY_OPS`.

    Raises:
        KeyError: There is no such op.
    """
    header = f'<domain: "{opset.DOMAIN}", opset_import: ["" : {opset.ONNX_OPSET}]>'
    return onnx.parser.parse_function(header + _bodies()[op_type])
