"""Names of ops and nodes."""

from __future__ import annotations

import onnx
import pytest

from bnn_deploy import opset
from bnn_deploy.bits import Levels
from bnn_deploy.opset import OccurrenceNames, binarize_node_name

ALL_OPS = (*opset.TRAINING_OPS, *opset.DEPLOY_OPS, *opset.FLOAT_OPS)


@pytest.mark.parametrize("name", ALL_OPS)
def test_no_op_has_the_name_of_a_standard_op(name: str) -> None:
    assert name not in {schema.name for schema in onnx.defs.get_all_schemas()}


def test_every_op_name_stands_for_one_op() -> None:
    assert len(set(ALL_OPS)) == len(ALL_OPS)


def test_every_kind_of_levels_has_a_pack_op() -> None:
    assert set(opset.PACK_OPS) == set(Levels)


def test_every_layer_op_is_a_convolution_or_fully_connected_and_packed_or_not() -> None:
    assert set(opset.CONV_OPS).isdisjoint(opset.LINEAR_OPS)
    assert set(opset.LAYER_OPS) == set(opset.CONV_OPS) | set(opset.LINEAR_OPS)
    float_activations = {opset.BINARY_WEIGHT_CONV2D, opset.BINARY_WEIGHT_LINEAR}
    assert set(opset.LAYER_OPS) - set(opset.PACKED_LAYER_OPS) == float_activations


def test_layers_with_a_float_output_have_a_float16_form() -> None:
    assert set(opset.FLOAT16_OPS) == {*opset.LAYER_OPS, *opset.EPILOGUES}
    for op_type, name in opset.FLOAT16_OPS.items():
        assert name != op_type and opset.float32_op(name) == op_type == opset.float32_op(op_type)
    assert set(opset.FLOAT16_OPS.values()) < set(opset.WEIGHT_OPS)


def test_occurrences_are_counted_by_name_in_call_order() -> None:
    unique = OccurrenceNames()
    calls = ["conv", "fc", "conv", "conv", "fc"]
    assert [unique(name) for name in calls] == ["conv", "fc", "conv#2", "conv#3", "fc#2"]


def test_two_rooms_count_independently() -> None:
    first, second = OccurrenceNames(), OccurrenceNames()
    first("conv")
    assert second("conv") == "conv"


def test_a_binarisation_is_named_by_the_layer_that_it_feeds() -> None:
    assert binarize_node_name("layer1.0.conv") == "layer1.0.conv/Binarize"
    assert binarize_node_name("layer1.0.conv") != "layer1.0.conv"
