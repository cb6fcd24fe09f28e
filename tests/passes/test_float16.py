"""What float16 holds, and which operators may have it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnn_deploy.passes.float16 import UNIT_ROUNDOFF, Signature, loss, reference, rounded


def array(*values: float) -> Any:
    return np.array(values, np.float64)


class TestLoss:
    @pytest.mark.parametrize("value", [0.0, -0.0, 1.0, 0.1, -65504.0, 65519.9, 2.0**-14, 2.0**-24, np.inf, np.nan])
    def test_none(self, value: float) -> None:
        assert loss(array(value)) == ""

    @pytest.mark.parametrize(
        ("value", "words"),
        [
            (65520.0, "it holds 6.552e+04, and float16 ends at 65504"),
            (-1e30, "it holds -1e+30, and float16 ends at 65504"),
            (1e-9, "it holds 1e-09, of which float16 makes 0"),
            (-9e-8, "it holds -9e-08, of which float16 makes -1.192e-07"),
        ],
    )
    def test_found(self, value: float, words: str) -> None:
        assert loss(array(0.5, value, 2.0)) == words

    def test_beside_something_larger(self) -> None:
        assert loss(array(1e-9, 0.5), 0.5) == ""
        assert loss(array(1e-9, 1e-6), 1e-6) != ""

    def test_where_infinity_serves(self) -> None:
        assert loss(array(3.4e38), saturates=True) == ""
        assert loss(array(3.4e38, 1e-9), saturates=True) != ""

    @given(st.floats(2.0**-14, 65504))
    def test_normal_numbers_keep_their_digits(self, value: float) -> None:
        assert loss(array(value)) == ""
        assert abs(float(rounded(array(value))[0]) - value) <= UNIT_ROUNDOFF * value


def node(op_type: str, inputs: int = 2, **attributes: Any) -> ir.Node:
    return ir.node(op_type, [ir.Value(name=f"x{i}") for i in range(inputs)], attributes)


class TestReference:
    @pytest.mark.parametrize(
        ("made", "expected"),
        [
            (node("Conv"), [[2], [4]]),
            (node("Gemm", transB=1), [[2], [4]]),
            (node("Gemm"), [[3, 4]]),
            (node("MatMul"), [[3, 4]]),
        ],
        ids=["Conv", "Gemm with rows of outputs", "Gemm", "MatMul"],
    )
    def test_of_weights_is_the_largest_of_an_output(self, made: ir.Node, expected: Any) -> None:
        np.testing.assert_array_equal(reference(made, 1, np.array([[1.0, -2.0], [3.0, 4.0]])), expected)

    def test_of_a_bias_is_its_sum(self) -> None:
        assert reference(node("Conv", 3), 2, array(1e-9)) == np.inf

    @pytest.mark.parametrize("index", [0, 1])
    def test_of_other_constants_is_themselves(self, index: int) -> None:
        assert reference(node("Mul"), index, array(1e-9)) == 0


class TestSignature:
    @pytest.mark.parametrize("op_type", ["Conv", "Relu", "Add", "AveragePool", "Gemm", "Clip", "PRelu"])
    def test_what_computes(self, op_type: str) -> None:
        found = Signature(node(op_type), 20)
        assert found.output(0) in found.free and found.input(0) == found.output(0)
        assert not found.moves_data

    @pytest.mark.parametrize("op_type", ["Reshape", "Concat", "Transpose", "Where", "Pad", "Gather", "Identity"])
    def test_what_moves_data(self, op_type: str) -> None:
        assert Signature(node(op_type), 20).moves_data

    @pytest.mark.parametrize("op_type", ["Cast", "Range", "Shape", "Greater", "NoSuchOperator"])
    def test_whose_output_has_a_type_of_its_own(self, op_type: str) -> None:
        found = Signature(node(op_type), 20)
        assert not found.free or found.output(0) not in found.free

    def test_operands_of_another_type(self) -> None:
        resize = Signature(node("Resize", 3), 20)
        assert resize.input(2) == "tensor(float)" and resize.input(0) in resize.free

    def test_a_type_that_is_missing_follows_from_the_inputs(self) -> None:
        x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT))
        greater = ir.node("Greater", [x, x])
        where = ir.node("Where", [greater.outputs[0], x, x])
        for made, dtype in ((greater, ir.DataType.BOOL), (where, ir.DataType.FLOAT)):
            Signature(made, 20).settle(made)
            assert made.outputs[0].dtype == dtype

    def test_the_last_input_repeats(self) -> None:
        assert Signature(node("Concat", 5), 20).input(4) == "T"
