"""The pieces that function bodies are put together from, in ONNX's text syntax.

Each function returns lines of a body; its docstring says what tensors they read and make. The first argument that names
a tensor they make is also the prefix of the names in between, so that a body can hold two of the same piece.
"""

from __future__ import annotations

# The value of each bit of a word. Bit 31 is the sign bit of an int32.
_MASKS = ", ".join(str(1 << bit) for bit in range(31)) + ", " + str(-(1 << 31))
_MASKS_LINE = f"masks = Constant <value = int32[32] {{ {_MASKS} }}> ()"


def pack_bits_lines(bits: str, words: str, count: str = "Constant <value_int: int = @channels> ()") -> str:
    """bits: [N, C, P] bool -> words: [N, P, ceil(C / 32)] int32. Pads C to whole words with zero bits.

    `count` is the expression that gives C, a scalar int64.
    """
    p = words  # a prefix that keeps the lines of two planes apart
    return f"""
        {p}_channels = {count}
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


def restore_shape_lines(words: str, packed: str, source: str = "x") -> str:
    """words: [N, P, W] -> packed: [N, *spatial, W]; source: [N, C, *spatial] gives the sizes."""
    return f"""
        batch = Shape <start = 0, end = 1> ({source})
        spatial = Shape <start = 2> ({source})
        word_count = Constant <value_ints = [-1]> ()
        packed_shape = Concat <axis = 0> (batch, spatial, word_count)
        {packed} = Reshape ({words}, packed_shape)"""


def unpack_lines(packed: str, values: str, low: str) -> str:
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


def slice_channels_lines(wide: str, sliced: str, count: str, axis: int, divisor: str = "") -> str:
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


def activation_lines(ternary: bool, rank: int) -> str:
    """packed: [N, H, W, words] (rank 4) or [N, words] (rank 2) -> x: the same with true channels, float."""
    keep = ", ".join("0" for _ in range(rank - 1))
    if ternary:
        return f"""
        zero_level = Constant <value_float = 0.0> ()
        {unpack_lines("packed", "x_bits", "zero_level")}
        planes_shape = Constant <value_ints = [{keep}, 2, -1]> ()
        planes = Reshape (x_bits, planes_shape)
        plane_signs = Constant <value = float[2, 1] {{ 1.0, -1.0 }}> ()
        signed_planes = Mul (planes, plane_signs)
        plane_axis = Constant <value_ints = [{rank - 1}]> ()
        x_wide = ReduceSum <keepdims = 0> (signed_planes, plane_axis)
        {slice_channels_lines("x_wide", "x", "value_int: int = @channels", rank - 1)}"""
    return f"""
        low_level = Constant <value_float: float = @low> ()
        {unpack_lines("packed", "x_bits", "low_level")}
        x_flat_shape = Constant <value_ints = [{keep}, -1]> ()
        x_wide = Reshape (x_bits, x_flat_shape)
        {slice_channels_lines("x_wide", "x", "value_int: int = @channels", rank - 1)}"""


CONV_WEIGHT_LINES = f"""
        low_weight = Constant <value_float = -1.0> ()
        {unpack_lines("weight", "w_bits", "low_weight")}
        w_flat_shape = Constant <value_ints = [0, 0, 0, -1]> ()
        w_wide = Reshape (w_bits, w_flat_shape)
        groups = Constant <value_int: int = @group> ()
        {slice_channels_lines("w_wide", "w_last", "value_int: int = @channels", 3, "groups")}
        w = Transpose <perm = [0, 3, 1, 2]> (w_last)"""

LINEAR_WEIGHT_LINES = f"""
        low_weight = Constant <value_float = -1.0> ()
        {unpack_lines("weight", "w_bits", "low_weight")}
        w_flat_shape = Constant <value_ints = [0, -1]> ()
        w_wide = Reshape (w_bits, w_flat_shape)
        {slice_channels_lines("w_wide", "w", "value_int: int = @channels", 1)}"""

CONV_ATTRIBUTES = "channels, strides, pads, dilations, group, pad_value"

TO_IMAGE = "image = Transpose <perm = [0, 3, 1, 2]> (x)"

# Pads for all four axes, put together: the shape inference of ONNX Runtime before 1.24 wants as many pads as there are
# axes, whatever the input `axes` says.
ACCUMULATOR_LINES = """
        pads = Constant <value_ints: ints = @pads> ()
        pads_begin, pads_end = Split <num_outputs = 2> (pads)
        no_pads = Constant <value_ints = [0, 0]> ()
        all_pads = Concat <axis = 0> (no_pads, pads_begin, no_pads, pads_end)
        pad_value = Constant <value_float: float = @pad_value> ()
        framed = Pad <mode = "constant"> (image, all_pads, pad_value)
        accumulator = Conv <strides: ints = @strides, dilations: ints = @dilations, group: int = @group> (framed, w)"""


def epilogue_lines(y: str) -> str:
    """accumulator: [N, O, H, W] -> y: the same; scale, bias: [O]. The scale is the left operand, see the package."""
    return f"""
        per_channel = Constant <value_ints = [-1, 1, 1]> ()
        channel_scale = Reshape (scale, per_channel)
        channel_bias = Reshape (bias, per_channel)
        scaled = Mul (channel_scale, accumulator)
        {y} = Add (scaled, channel_bias)"""
