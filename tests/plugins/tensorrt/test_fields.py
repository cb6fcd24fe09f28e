"""Attributes as a parser hands them over: every number type that one may choose, and every value that is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from plugin_cases import random_case
from plugin_host import PluginError, PluginLibrary

from bnn_deploy import opset

OP = opset.EPILOGUES["PackedConv2dAddClipPack"].op_type


@pytest.mark.parametrize("integer", [np.int32, np.int64])
@pytest.mark.parametrize("level", [np.int32, np.int64, np.float32])
def test_types_of_numbers(plugins: PluginLibrary, generator: np.random.Generator, integer: Any, level: Any) -> None:
    case = random_case(OP, generator)
    levels = {"low", "pad_value"}
    fields = {
        name: array if name.startswith("clip") else array.astype(level if name in levels else integer)
        for name, array in case.fields().items()
    }
    with plugins.create(OP, fields) as found, plugins.create(OP, case.fields()) as expected:
        assert found.timing_cache_id() == expected.timing_cache_id()


REFUSED = [
    ("channels", 0, "attribute channels is 0, wanted 1 to 16777216"),
    ("channels", 1 << 40, "attribute channels is 1099511627776"),
    ("channels", [70, 70], "attribute channels has 2 values, wanted 1"),
    ("low", 0.5, "attribute low is 0.5, wanted -1, 0 or 1"),
    ("low", 1.0, "attribute low is 1, wanted -1 to 0"),
    ("pad_value", 2, "attribute pad_value is 2, wanted -1, 0 or 1"),
    ("pad_value", float("nan"), "attribute pad_value is nan, wanted -1, 0 or 1"),
    ("strides", [1, 0], "attribute strides is 0, wanted 1 to 16777216"),
    ("strides", 1, "attribute strides has 1 values, wanted 2"),
    ("pads", [1, 1, 1, -1], "attribute pads is -1, wanted 0 to 16777216"),
    ("dilations", [0, 1], "attribute dilations is 0, wanted 1 to 16777216"),
    ("group", 3, "70 channels do not divide into 3 groups"),
    ("clip_low", 1, "attribute clip_low has the field type 10, wanted float32"),
]


@pytest.mark.parametrize(("name", "value", "message"), REFUSED)
def test_refused(plugins: PluginLibrary, generator: np.random.Generator, name: str, value: Any, message: str) -> None:
    with pytest.raises(PluginError) as refused:
        plugins.create(OP, random_case(OP, generator).fields(**{name: value}), "layer1/conv")
    assert str(refused.value) == f"{OP} 'layer1/conv': {message}"


def test_kernel_shape_of_a_pool(plugins: PluginLibrary, generator: np.random.Generator) -> None:
    op = opset.PACKED_MAX_POOL2D
    with pytest.raises(PluginError, match="attribute kernel_shape is 0, wanted 1 to 16777216"):
        plugins.create(op, random_case(op, generator).fields(kernel_shape=[3, 0]))


def test_attributes_of_others_are_let_pass(plugins: PluginLibrary, generator: np.random.Generator) -> None:
    case = random_case(opset.PACK_BIPOLAR, generator)
    fields = {**case.fields(), "plugin_version": np.zeros(1, np.int32)}
    with plugins.create(case.op, fields) as plugin:
        assert plugin.timing_cache_id() == "PackBipolar channels=70"
