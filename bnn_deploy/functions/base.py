"""The deploy ops that nothing is fused into: packs, and 1-bit layers with `y = scale * accumulator + bias`."""

from __future__ import annotations

from bnn_deploy import opset
from bnn_deploy.functions.pieces import (
    ACCUMULATOR_LINES,
    BYTE_LINES,
    CONV_ATTRIBUTES,
    CONV_WEIGHT_LINES,
    LINEAR_WEIGHT_LINES,
    TO_IMAGE,
    activation_lines,
    epilogue_lines,
    output_lines,
    pack_bits_lines,
    restore_shape_lines,
    widen_lines,
)


def _pack_body(name: str, compare: str) -> str:
    """x: [N, C, *spatial], threshold: [1] or [C] float32 -> packed: [N, *spatial, ceil(C / 32)] int32."""
    return f"""
    {name} <channels> (x, threshold) => (packed) {{
        {widen_lines("x", "rows", "[0, 0, -1]")}
        last = Constant <value_ints = [-1]> ()
        column = Unsqueeze (threshold, last)
        bits = {compare} (rows, column)
        {pack_bits_lines("bits", "words")}
        {restore_shape_lines("words", "packed")}
    }}"""


def _pack_ternary_body() -> str:
    """x: [N, C, *spatial] -> packed: [N, *spatial, 2 * ceil(C / 32)] int32, plane P then plane N."""
    return f"""
    {opset.PACK_TERNARY} <channels> (x) => (packed) {{
        {widen_lines("x", "rows", "[0, 0, -1]")}
        origin = Constant <value_float = 0.0> ()
        positive = Greater (rows, origin)
        not_negative = GreaterOrEqual (rows, origin)
        negative = Not (not_negative)
        {pack_bits_lines("positive", "positive_words")}
        {pack_bits_lines("negative", "negative_words")}
        words = Concat <axis = 2> (positive_words, negative_words)
        {restore_shape_lines("words", "packed")}
    }}"""


_LINEAR_LINES = """
        accumulator = Gemm <transB = 1> (x, w)
        scaled = Mul (scale, accumulator)
        z = Add (scaled, bias)"""


def base_bodies() -> dict[str, str]:
    """Op type -> body, in ONNX's text syntax without its header."""
    return {
        opset.PACK_BIPOLAR: _pack_body(opset.PACK_BIPOLAR, "GreaterOrEqual"),
        opset.PACK_UNIPOLAR: _pack_body(opset.PACK_UNIPOLAR, "Greater"),
        opset.PACK_TERNARY: _pack_ternary_body(),
        **_layer_bodies(float16=False),
        **{opset.FLOAT16_OPS[op_type]: body for op_type, body in _layer_bodies(float16=True).items()},
    }


def _layer_bodies(*, float16: bool) -> dict[str, str]:
    """Op type without its precision -> body."""
    map_lines = output_lines("z", "y", "[0, 0, 0, -1]", float16=float16)
    row_lines = output_lines("z", "y", "[0, -1]", float16=float16)
    image = widen_lines("x", "image", "[0, 0, 0, -1]") if float16 else "image = Identity (x)"
    row = widen_lines("real", "x", "[0, -1]") if float16 else "x = Identity (real)"

    def name(op_type: str) -> str:
        return opset.FLOAT16_OPS[op_type] if float16 else op_type

    bodies = {
        opset.BINARY_WEIGHT_CONV2D: f"""
    {name(opset.BINARY_WEIGHT_CONV2D)} <{CONV_ATTRIBUTES}> (x, weight, scale, bias) => (y) {{
        {image}
        {BYTE_LINES}
        {CONV_WEIGHT_LINES}
        {ACCUMULATOR_LINES}
        {epilogue_lines("z")}
        {map_lines}
    }}""",
        opset.BINARY_WEIGHT_LINEAR: f"""
    {name(opset.BINARY_WEIGHT_LINEAR)} <channels> (real, weight, scale, bias) => (y) {{
        {row}
        {BYTE_LINES}
        {LINEAR_WEIGHT_LINES}
        {_LINEAR_LINES}
        {row_lines}
    }}""",
    }
    for conv, linear, ternary in (
        (opset.PACKED_CONV2D, opset.PACKED_LINEAR, False),
        (opset.PACKED_TERNARY_CONV2D, opset.PACKED_TERNARY_LINEAR, True),
    ):
        low = "" if ternary else ", low"
        bodies[conv] = f"""
    {name(conv)} <{CONV_ATTRIBUTES}{low}> (packed, weight, scale, bias) => (y) {{
        {activation_lines(ternary, rank=4)}
        {TO_IMAGE}
        {CONV_WEIGHT_LINES}
        {ACCUMULATOR_LINES}
        {epilogue_lines("z")}
        {map_lines}
    }}"""
        bodies[linear] = f"""
    {name(linear)} <channels{low}> (packed, weight, scale, bias) => (y) {{
        {activation_lines(ternary, rank=2)}
        {LINEAR_WEIGHT_LINES}
        {_LINEAR_LINES}
        {row_lines}
    }}"""
    return bodies
