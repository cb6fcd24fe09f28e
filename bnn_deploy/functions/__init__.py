"""The ONNX function body of every deploy op: what a runtime runs that has no kernel of ours.

Written in ONNX's own text syntax, so that a body reads as it will run. Each uses standard ops only. Three rules keep
the bodies exact and let ONNX Runtime keep them so:

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
from bnn_deploy.functions.base import base_bodies
from bnn_deploy.functions.float_layers import float_layer_bodies
from bnn_deploy.functions.fused import fused_bodies

__all__ = ["function_body"]


@cache
def function_body(op_type: str) -> onnx.FunctionProto:
    """The function body of a deploy op.

    Args:
        op_type: A deploy-level op of `opset`, fused or not.

    Raises:
        KeyError: There is no such op.
    """
    header = f'<domain: "{opset.DOMAIN}", opset_import: ["" : {opset.ONNX_OPSET}]>'
    return onnx.parser.parse_function(header + (base_bodies() | fused_bodies() | float_layer_bodies())[op_type])
