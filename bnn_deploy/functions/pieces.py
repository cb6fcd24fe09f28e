"""The pieces that function bodies are put together from, in ONNX's text syntax.

Each function returns lines of a body; its docstring says what tensors they read and make. The first argument that names
a tensor they make is also the prefix of the names in between, so that a body can hold two of the same piece.
"""

from __future__ import annotations

# The value of each bit of a word. Bit 31 is the sign bit of an int32.
_MASKS = ", ".join(str(1 << bit) for bit in range(31)) + ", " + str(-(1 << 31))
MASKS_LINE = f"masks = Constant <value = int32[32] {{ {_MASKS} }}> ()"


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
        {p}_{MASKS_LINE}
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


# What `unpack_lines` needs, once in a body. unset: [256, 8] bool, row v, column b: whether bit b of the byte v is 0.
# Divisions instead of shifts and masks, because TensorRT's parser takes no bitwise op.
BYTE_LINES = """
        last_axis = Constant <value_ints = [-1]> ()
        zero = Constant <value_int = 0> ()
        one = Constant <value_int = 1> ()
        two = Constant <value_int = 2> ()
        byte = Constant <value_int = 256> ()
        word = Constant <value_int = 4294967296> ()
        byte_places = Constant <value_ints = [1, 256, 65536, 16777216]> ()
        bit_places = Constant <value_ints = [1, 2, 4, 8, 16, 32, 64, 128]> ()
        all_bytes = Range (zero, byte, one)
        bytes_column = Unsqueeze (all_bytes, last_axis)
        from_bit = Div (bytes_column, bit_places)
        bit = Mod (from_bit, two)
        unset = Equal (bit, zero)
        set_level = Constant <value_float = 1.0> ()"""


def unpack_lines(packed: str, values: str, low: str) -> str:
    """packed: [..., W] int32 -> values: [..., W, 4, 8] float, `low` where a bit is 0 and 1.0 where it is 1.

    Byte k of a word w is `floor(w / 256**k) mod 256`; the eight values of a byte are looked up. 2**32 added first
    changes no byte and leaves nothing negative to divide, where runtimes differ. `BYTE_LINES` stands before it.
    """
    p = values
    return f"""
        {p}_wide = Cast <to = 7> ({packed})
        {p}_positive = Add ({p}_wide, word)
        {p}_column = Unsqueeze ({p}_positive, last_axis)
        {p}_from_byte = Div ({p}_column, byte_places)
        {p}_bytes = Mod ({p}_from_byte, byte)
        {p}_table = Where (unset, {low}, set_level)
        {values} = Gather ({p}_table, {p}_bytes)"""


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
    """packed: [N, H, W, words] (rank 4) or [N, words] (rank 2) -> x: the same with true channels, float.

    Also what `BYTE_LINES` makes, for the weights that follow.
    """
    keep = ", ".join("0" for _ in range(rank - 1))
    if ternary:
        return f"""
        {BYTE_LINES}
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
        {BYTE_LINES}
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


def widen_lines(x: str, wide: str, shape: str) -> str:
    """x: float32 or float16 -> wide: the same values in `shape`, float32.

    Reshaped first for a reason. Where ONNX Runtime has no float16 kernel for what makes x, it computes in float32 and
    rounds the result by a cast of its own. A cast that came next would cancel that one, and values be read that x does
    not hold.
    """
    return f"""
        {wide}_shape = Constant <value_ints = {shape}> ()
        {wide}_as_given = Reshape ({x}, {wide}_shape)
        {wide} = Cast <to = 1> ({wide}_as_given)"""


def output_lines(z: str, y: str, shape: str, *, float16: bool) -> str:
    """z: float32 -> y: the same, or rounded once to float16; `shape` is its own. For the reshape see `widen_lines`."""
    if not float16:
        return f"{y} = Identity ({z})"
    return f"""
        {y}_shape = Constant <value_ints = {shape}> ()
        {y}_rounded = Cast <to = 10> ({z})
        {y} = Reshape ({y}_rounded, {y}_shape)"""


def epilogue_lines(y: str) -> str:
    """accumulator: [N, O, H, W] -> y: the same; scale, bias: [O]. The scale is the left operand, see the package."""
    return f"""
        per_channel = Constant <value_ints = [-1, 1, 1]> ()
        channel_scale = Reshape (scale, per_channel)
        channel_bias = Reshape (bias, per_channel)
        scaled = Mul (channel_scale, accumulator)
        {y} = Add (scaled, channel_bias)"""
