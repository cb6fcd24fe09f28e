"""The deploy ops that nothing is fused into: packs, and 1-bit layers with `y = scale * accumulator + bias`."""

from __future__ import annotations

from bnn_deploy import opset
from bnn_deploy.functions.pieces import (
    ACCUMULATOR_LINES,
    CONV_ATTRIBUTES,
    CONV_WEIGHT_LINES,
    LINEAR_WEIGHT_LINES,
    TO_IMAGE,
    activation_lines,
    epilogue_lines,
    pack_bits_lines,
    restore_shape_lines,
)


def _pack_body(name: str, compare: str) -> str:
    """x: [N, C, *spatial] float, threshold: [1] or [C] float -> packed: [N, *spatial, ceil(C / 32)] int32."""
    return f"""
    {name} <channels> (x, threshold) => (packed) {{
        rows_shape = Constant <value_ints = [0, 0, -1]> ()
        rows = Reshape (x, rows_shape)
        last = Constant <value_ints = [-1]> ()
        column = Unsqueeze (threshold, last)
        bits = {compare} (rows, column)
        {pack_bits_lines("bits", "words")}
        {restore_shape_lines("words", "packed")}
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
        {pack_bits_lines("positive", "positive_words")}
        {pack_bits_lines("negative", "negative_words")}
        words = Concat <axis = 2> (positive_words, negative_words)
        {restore_shape_lines("words", "packed")}
    }}"""


_CONV_LINES = ACCUMULATOR_LINES + epilogue_lines("y")

_LINEAR_LINES = """
        accumulator = Gemm <transB = 1> (x, w)
        scaled = Mul (scale, accumulator)
        y = Add (scaled, bias)"""


def base_bodies() -> dict[str, str]:
    """Op type -> body, in ONNX's text syntax without its header."""
    bodies = {
        opset.PACK_BIPOLAR: _pack_body(opset.PACK_BIPOLAR, "GreaterOrEqual"),
        opset.PACK_UNIPOLAR: _pack_body(opset.PACK_UNIPOLAR, "Greater"),
        opset.PACK_TERNARY: _pack_ternary_body(),
        opset.BINARY_WEIGHT_CONV2D: f"""
    {opset.BINARY_WEIGHT_CONV2D} <{CONV_ATTRIBUTES}> (image, weight, scale, bias) => (y) {{
        {CONV_WEIGHT_LINES}
        {_CONV_LINES}
    }}""",
        opset.BINARY_WEIGHT_LINEAR: f"""
    {opset.BINARY_WEIGHT_LINEAR} <channels> (x, weight, scale, bias) => (y) {{
        {LINEAR_WEIGHT_LINES}
        {_LINEAR_LINES}
    }}""",
    }
    for conv, linear, ternary in (
        (opset.PACKED_CONV2D, opset.PACKED_LINEAR, False),
        (opset.PACKED_TERNARY_CONV2D, opset.PACKED_TERNARY_LINEAR, True),
    ):
        low = "" if ternary else ", low"
        bodies[conv] = f"""
    {conv} <{CONV_ATTRIBUTES}{low}> (packed, weight, scale, bias) => (y) {{
        {activation_lines(ternary, rank=4)}
        {TO_IMAGE}
        {CONV_WEIGHT_LINES}
        {_CONV_LINES}
    }}"""
        bodies[linear] = f"""
    {linear} <channels{low}> (packed, weight, scale, bias) => (y) {{
        {activation_lines(ternary, rank=2)}
        {LINEAR_WEIGHT_LINES}
        {_LINEAR_LINES}
    }}"""
    return bodies
