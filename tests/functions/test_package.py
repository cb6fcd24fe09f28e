"""What holds for every function body, fused or not."""

from __future__ import annotations

import pytest

from bnn_deploy import opset
from bnn_deploy.functions import function_body

CONVOLUTIONS = (*opset.CONV_OPS, *opset.FUSED_CONV_OPS, opset.PACKED_CONV2D_BITS)
OPS = (
    *opset.PACK_OPS.values(),
    *opset.WEIGHT_OPS,
    opset.PACK_INTERVAL,
    opset.PACKED_MAX_POOL2D,
    *opset.FLOAT_OPS,
)


@pytest.mark.parametrize("op_type", OPS)
def test_standard_ops_only(op_type: str) -> None:
    body = function_body(op_type)
    assert {node.domain for node in body.node} == {""}
    assert (body.domain, body.name) == (opset.DOMAIN, op_type)


@pytest.mark.parametrize("op_type", OPS)
def test_each_tensor_is_made_once(op_type: str) -> None:
    body = function_body(op_type)
    made = [name for node in body.node for name in node.output]
    assert len(set(made)) == len(made) and set(body.output) <= set(made)


@pytest.mark.parametrize("op_type", CONVOLUTIONS)
def test_the_pads_of_a_convolution_cover_all_axes(op_type: str) -> None:
    """With an input `axes`, ONNX Runtime before 1.24 refused the whole file: it wanted pads for four axes."""
    body = function_body(op_type)
    (conv,) = [node for node in body.node if node.op_type == "Conv"]
    (pad,) = [node for node in body.node if conv.input[0] in node.output]
    assert pad.op_type == "Pad" and len(pad.input) == 3


def test_an_unknown_op_has_no_body() -> None:
    with pytest.raises(KeyError):
        function_body("Conv")
