from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from bnn_deploy.parity.instrument import teacher_forced
from bnn_deploy.parity.reduction.oracle import Expected, Reference, Subject, of_samples, reference_of, rounding

Deployed = Callable[..., Any]
NETWORKS = (
    "Residual", "Fused", "Ternary", "Unipolar", "Assorted", "Repeated", "Rectified", "InPlace", "TwoInputs", "Stemmed",
)  # fmt: skip


def reference(given: Any) -> Reference:
    return reference_of(given.proto(), given.feeds, given.record())


@pytest.mark.parametrize("network", NETWORKS)
def test_of_a_good_file_every_tensor_is_explained(network: str, deployed: Deployed) -> None:
    found = reference(deployed(network))
    made = {name for node in found.subject.file.graph.node for name in node.output if name}
    assert made == found.computed.keys() and made <= found.known.keys()
    assert all(found.explained(name) for name in made)
    assert {point.read for point in found.subject.packs} <= found.anchored


def test_what_is_cut_near_a_threshold_does_not_count() -> None:
    """y = a given x plus 0, then packed: of values within rounding of the threshold either bit is right."""
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("bnn_deploy", 1)]
    nodes = [
        helper.make_node("Add", ["x", "zero"], ["y"], name="add"),
        helper.make_node("PackBipolar", ["y", "zero"], ["bits"], name="pack", domain="bnn_deploy", channels=3),
        helper.make_node(
            "PackedLinear", ["bits", "w", "one", "zero"], ["z"], "fc", domain="bnn_deploy", channels=3, low=-1.0
        ),
    ]
    constants = {"zero": np.zeros(1, np.float32), "one": np.ones(1, np.float32), "w": np.zeros((1, 1), np.int32)}
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, None]) for name in "xz"]
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], initializer=initializers)
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    subject = Subject(model, model, teacher_forced(model).packs)
    x = np.array([[1e-7, 1.0, -1.0]], np.float32)
    made = subject.compute([0, 1], {"x": x}, ["bits"])["bits"]
    assert made.values.tolist() == [[0b011]] and made.care is not None and made.care.tolist() == [[~0b001]]
    assert not made.differing(np.array([[0b010]], np.int32)).any()
    assert made.differing(np.array([[0b001]], np.int32)).all()
    assert made.differing(np.array([[0b1011]], np.int32)).all(), "unused bits count"
    assert subject.compute([1], {"y": x}, ["bits"])["bits"].care is None, "of a value that is given no bit is open"


def test_rounding() -> None:
    assert rounding(np.array([5, -7])) == 0.0
    assert rounding(np.array([1.0, -3.0, np.inf, np.nan], np.float32)) == pytest.approx(3e-5)
    assert rounding(np.array([2.0], np.float16)) == pytest.approx(2 * 1e-5 * 2.0**13)


def test_samples() -> None:
    whole = Expected(np.arange(6).reshape(3, 2), 0.5, np.ones((3, 2), np.bool_))
    some = whole.samples([2, 0], 3)
    assert some.values.tolist() == [[4, 5], [0, 1]] and some.tolerance == 0.5
    assert some.care is not None and some.care.shape == (2, 2)
    assert of_samples(np.arange(4), [0], 3).tolist() == [0, 1, 2, 3], "not an axis of samples"
