"""Which ops there are plugins for, and what they ask a parser for."""

from __future__ import annotations

import numpy as np
import pytest
from plugin_cases import OPS, random_case
from plugin_host import FIELD_TYPES, PluginError, PluginLibrary

from bnn_deploy import opset
from bnn_deploy.functions import function_body

REAL = {"clip_low", "clip_high"}
# The standard's own values, for a node that does not say.
DEFAULTS = {"strides": [1, 1], "pads": [0, 0, 0, 0], "dilations": [1, 1], "group": 1, "pad_value": 0.0}
COUNTS = {"strides": 2, "pads": 4, "dilations": 2, "kernel_shape": 2}


def test_there_is_a_creator_for_every_deploy_op_with_a_kernel(plugins: PluginLibrary) -> None:
    """All of the operator set but layers with 1-bit weights alone, which are float convolutions."""
    deploy = {*opset.DEPLOY_OPS, *opset.WEIGHT_OPS, opset.PACK_INTERVAL, opset.PACKED_MAX_POOL2D}
    found = plugins.ops()
    assert sorted(found) == sorted(op for op in deploy if not op.startswith("BinaryWeight"))
    assert sorted(found) == sorted(OPS)


@pytest.mark.parametrize("op", OPS)
def test_attributes_are_those_of_the_function_body(plugins: PluginLibrary, op: str) -> None:
    number = {True: FIELD_TYPES[np.dtype(np.float32)], False: FIELD_TYPES[np.dtype(np.int32)]}
    wanted = {name: (number[name in REAL], COUNTS.get(name, 1)) for name in function_body(op).attribute}
    assert plugins.fields(op) == wanted


@pytest.mark.parametrize("op", OPS)
def test_inputs_and_outputs_are_those_of_the_function_body(
    plugins: PluginLibrary, generator: np.random.Generator, op: str
) -> None:
    case, body = random_case(op, generator), function_body(op)
    with plugins.create(op, case.fields()) as plugin:
        assert len(plugin.outputs(case.tensors)) == len(body.output)
        with pytest.raises(PluginError, match=rf"^{op}: {len(body.input) - 1} inputs, wanted {len(body.input)}$"):
            plugin.outputs(case.tensors[:-1])


@pytest.mark.parametrize("op", OPS)
def test_an_absent_attribute_is_refused_or_the_default_of_the_standard(
    plugins: PluginLibrary, generator: np.random.Generator, op: str
) -> None:
    case = random_case(op, generator)
    for name in case.attributes():
        if name not in DEFAULTS:
            with pytest.raises(PluginError, match=rf"^{op} 'layer1': attribute {name} is missing$"):
                plugins.create(op, case.fields(**{name: None}), "layer1")
            continue
        with (
            plugins.create(op, case.fields(**{name: None})) as silent,
            plugins.create(op, case.fields(**{name: DEFAULTS[name]})) as stated,
        ):
            assert silent.timing_cache_id() == stated.timing_cache_id()


def test_an_op_that_is_not_served(plugins: PluginLibrary) -> None:
    with pytest.raises(PluginError, match="no creator for BinaryWeightConv2d"):
        plugins.create("BinaryWeightConv2d", {})
