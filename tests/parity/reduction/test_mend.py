from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from bnn_deploy.parity.instrument import observed
from bnn_deploy.parity.reduction.mend import mend
from bnn_deploy.parity.reduction.oracle import Subject

Deployed = Callable[..., Any]
NETWORKS = ("Residual", "Fused", "Ternary", "Unipolar", "Assorted", "Repeated", "Rectified", "InPlace", "TwoInputs")


@pytest.mark.parametrize("network", NETWORKS)
def test_a_good_file_mended_is_the_same(network: str, deployed: Deployed) -> None:
    given = deployed(network)
    model, recording = given.proto(), given.record()
    mended = mend(model, recording)
    assert model.SerializeToString() == given.proto().SerializeToString()
    subject = Subject(model, mended, observed(model).packs)
    everything = range(len(model.graph.node))
    own = subject.compute(everything, given.feeds, mended=False)
    for name, expected in subject.compute(everything, given.feeds).items():
        np.testing.assert_array_equal(expected.values, own[name].values)


def test_mending_restores_weights_levels_and_geometry(deployed: Deployed) -> None:
    given = deployed("Residual")
    model, good = given.proto(), given.proto()
    node = next(node for node in model.graph.node if node.name == "second")
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == node.input[1])
    weight.CopyFrom(numpy_helper.from_array(~numpy_helper.to_array(weight), weight.name))
    wrong = {"strides": [1, 1], "pads": [0, 0, 0, 0], "low": 0.0, "pad_value": 1.0}
    for entry in list(node.attribute):
        if entry.name in wrong:
            node.attribute.remove(entry)
            node.attribute.append(helper.make_attribute(entry.name, wrong[entry.name]))
    mended = mend(model, given.record())
    again, was = (next(n for n in proto.graph.node if n.name == "second") for proto in (mended, good))
    values = {entry.name: helper.get_attribute_value(entry) for entry in again.attribute}
    assert values == {entry.name: helper.get_attribute_value(entry) for entry in was.attribute}
    packed = {tensor.name: numpy_helper.to_array(tensor) for tensor in (*mended.graph.initializer,)}
    original = {tensor.name: numpy_helper.to_array(tensor) for tensor in good.graph.initializer}
    np.testing.assert_array_equal(packed[again.input[1]], original[was.input[1]])


@pytest.mark.parametrize(
    ("scale", "bias", "restored"), [(1.5, 1.0, True), (1.0, 1.0, True), (1.5, 1.5, False), (1.0, 1.5, False)]
)
def test_scale_and_bias_are_restored_where_the_recording_is_sure_of_them(
    scale: float, bias: float, restored: bool, deployed: Deployed
) -> None:
    """A bias says which step of the network it is from, and so the scale; nothing says what a bias should be."""
    given = deployed("Residual")
    model, recording = given.proto(), given.record()
    (node,) = [node for node in model.graph.node if node.name == "second"]
    good = [constant(model, node.input[index]) for index in (2, 3)]
    spoilt = [array * np.float32(factor) for array, factor in zip(good, (scale, bias), strict=True)]
    for index, array in zip((2, 3), spoilt, strict=True):
        node.input[index] = f"spoilt.{index}"
        model.graph.initializer.append(numpy_helper.from_array(array, node.input[index]))
    mended = mend(model, recording)
    (again,) = [node for node in mended.graph.node if node.name == "second"]
    for index, array in zip((2, 3), good if restored else spoilt, strict=True):
        np.testing.assert_allclose(constant(mended, again.input[index]), array, rtol=1e-6)


def constant(model: onnx.ModelProto, name: str) -> Any:
    (found,) = [tensor for tensor in model.graph.initializer if tensor.name == name]
    return numpy_helper.to_array(found)
