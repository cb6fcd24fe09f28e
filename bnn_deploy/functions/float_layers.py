"""The float layers between 1-bit ones: a stem with its max-pool, average pools, and what follows one of these."""

from __future__ import annotations

from collections.abc import Mapping

from bnn_deploy import opset

_AVERAGE = "AveragePool <kernel_shape: ints = @kernel_shape, strides: ints = @strides>"


def _attributes(values: Mapping[str, tuple[int, ...]]) -> str:
    """In ONNX's text syntax, without the brackets around them."""
    return ", ".join(f"{name} = {list(value)}" for name, value in values.items())


def float_layer_bodies() -> dict[str, str]:
    """Op type -> body, in ONNX's text syntax without its header.

    x: [N, C, H, W] float32 -> y: [N, C, H', W'] float32, or [N, O, H', W'] where there is a weight.
    """
    stem_strides = _attributes({"strides": opset.STEM_STRIDES})
    return {
        opset.STEM_CONV2D_MAX_POOL: f"""
    {opset.STEM_CONV2D_MAX_POOL} <pads> (x, weight, bias) => (y) {{
        convolved = Conv <{stem_strides}, pads: ints = @pads> (x, weight, bias)
        y = MaxPool <{_attributes(opset.STEM_POOL)}> (convolved)
    }}""",
        opset.AVERAGE_POOL2D: f"""
    {opset.AVERAGE_POOL2D} <kernel_shape, strides> (x) => (y) {{
        y = {_AVERAGE} (x)
    }}""",
        opset.AVERAGE_POOL_CONV2D: f"""
    {opset.AVERAGE_POOL_CONV2D} <kernel_shape, strides> (x, weight, bias) => (y) {{
        pooled = {_AVERAGE} (x)
        y = Conv (pooled, weight, bias)
    }}""",
    }
