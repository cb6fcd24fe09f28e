"""A look inside a file changes nothing of what it computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from bnn_deploy.bits import Levels
from bnn_deploy.parity.instrument import observed, teacher_forced
from bnn_deploy.runners.onnxruntime import OnnxRuntimeRunner
from bnn_deploy.runners.reference import ReferenceRunner

NETWORKS = (
    "Residual", "Fused", "Ternary", "Unipolar", "Assorted", "Repeated", "InPlace", "TwoInputs", "Rectified", "Stemmed",
)  # fmt: skip


@pytest.mark.parametrize("runner", [OnnxRuntimeRunner, ReferenceRunner])
@pytest.mark.parametrize("network", NETWORKS)
def test_given_its_own_bits_a_file_computes_what_it_did(
    network: str, runner: Any, deployed: Callable[..., Any]
) -> None:
    given = deployed(network)
    plain = runner(given.proto()).infer(given.feeds)
    seen = observed(given.proto())
    outputs = runner(seen.model).infer(given.feeds)
    forced = teacher_forced(given.proto())
    own = {point.forced: outputs[point.read] for point in (*forced.packs, *forced.floats)}
    again = runner(forced.model).infer({**given.feeds, **own})
    for name, array in plain.items():
        np.testing.assert_array_equal(outputs[name], array)
        np.testing.assert_array_equal(again[name], array)
    for point in forced.packs:
        np.testing.assert_array_equal(again[point.read], outputs[point.read])


def assert_in_order(graph: onnx.GraphProto) -> None:
    """Every name is written once, and before it is read. Runtimes sort nodes; a reference evaluator may not."""
    there = {value.name for value in (*graph.input, *graph.initializer)}
    assert len(there) == len(graph.input) + len(graph.initializer)
    for node in graph.node:
        assert set(node.input) - {""} <= there, node.name
        assert not there & set(node.output), node.name
        there.update(node.output)
    outputs = [value.name for value in graph.output]
    assert len(set(outputs)) == len(outputs) and set(outputs) <= there


@pytest.mark.parametrize("network", NETWORKS)
def test_variants_are_valid_and_the_file_is_left_alone(network: str, deployed: Callable[..., Any]) -> None:
    model = deployed(network).proto()
    before = model.SerializeToString(deterministic=True)
    for variant in (observed(model).model, teacher_forced(model).model):
        assert_in_order(variant.graph)
        assert [value.name for value in variant.graph.output][: len(model.graph.output)] == [
            value.name for value in model.graph.output
        ]
    assert model.SerializeToString(deterministic=True) == before


def test_every_layer_and_binarisation_is_there(deployed: Callable[..., Any]) -> None:
    variant = teacher_forced(deployed("Assorted").proto())
    packs = {point.name: point for point in variant.packs}
    assert set(packs) == {"grouped/Binarize", "tall/Binarize", "fc/Binarize"}
    assert {name: layer.pack for layer in variant.layers for name in layer.names} == {
        "grouped": "grouped/Binarize",
        "tall": "tall/Binarize",
        "weights_only": "",
        "fc": "fc/Binarize",
    }
    assert {point.channels for point in variant.packs} == {4, 34, 175}


@pytest.mark.parametrize("network", ["Residual", "Ternary", "Assorted"])
def test_accumulators_are_what_the_bits_say(network: str, deployed: Callable[..., Any]) -> None:
    """Given any bits, sums are integers, and other bits give other sums."""
    given = deployed(network)
    variant = teacher_forced(given.proto())
    generator = np.random.default_rng(0)
    free = OnnxRuntimeRunner(observed(given.proto()).model).infer(given.feeds)
    bits = {
        point.forced: generator.integers(-(2**31), 2**31, free[point.read].shape, np.int32) for point in variant.packs
    }
    feeds = {**given.feeds, **{point.forced: free[point.read] for point in variant.floats}}
    outputs = OnnxRuntimeRunner(variant.model).infer({**feeds, **bits})
    inverted = OnnxRuntimeRunner(variant.model).infer({**feeds, **{name: ~words for name, words in bits.items()}})
    checked = 0
    for layer in variant.layers:
        if layer.pack:
            sums = outputs[layer.accumulator]
            np.testing.assert_array_equal(sums, np.rint(sums))
            assert not np.array_equal(sums, inverted[layer.accumulator])
            checked += 1
    assert checked >= 2


def test_a_network_that_binarises_its_input(deployed: Callable[..., Any]) -> None:
    """An input cannot be an output too; the harness finds it among the feeds."""
    model = deployed("Assorted").proto()
    (point,) = [point for point in teacher_forced(model).packs if point.name == "grouped/Binarize"]
    assert point.condition == "x"
    assert "x" not in [value.name for value in teacher_forced(model).model.graph.output]


def test_bits_mean_what_the_layer_behind_them_takes_them_for(deployed: Callable[..., Any]) -> None:
    """An interval says nothing of levels: the bit 0 of a fused pack is 0 or -1 by the layer that reads it."""
    (point,) = teacher_forced(deployed("UnipolarChain").proto()).packs[1:]
    assert point.levels is Levels.UNIPOLAR
