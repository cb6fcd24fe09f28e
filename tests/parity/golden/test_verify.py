"""Replaying a bundle must be able to fail: what is planted is named first, counted and located."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import helper, numpy_helper

from bnn_deploy import opset
from bnn_deploy.errors import InputRefused
from bnn_deploy.parity.golden.format import sha256_of_integers
from bnn_deploy.parity.golden.reader import read_golden
from bnn_deploy.parity.golden.results import CaseVerification
from bnn_deploy.parity.golden.verify import verify_golden
from bnn_deploy.runners.base import Exact, Recording
from bnn_deploy.runners.onnxruntime import OnnxRuntimeRunner
from bnn_deploy.runners.reference import ReferenceRunner

Deployed = Callable[..., Any]
Golden = Callable[..., Path]
NETWORKS = ["Residual", "Fused", "Ternary", "Unipolar", "UnipolarChain", "Assorted", "Repeated", "TwoInputs"]


def one_thread(model: onnx.ModelProto) -> OnnxRuntimeRunner:
    return OnnxRuntimeRunner(model, threads=1)


def replay(folder: Path, factory: Any = one_thread, model: onnx.ModelProto | None = None) -> CaseVerification:
    (result,) = verify_golden(read_golden(folder), {"tested": factory}, model=model)["tested"]
    return result


def spoiled(change: Callable[[dict[str, Any]], object]) -> type[OnnxRuntimeRunner]:
    """A backend whose outputs are changed behind its back."""

    class Spoiled(OnnxRuntimeRunner):
        def infer(self, feeds: Any) -> dict[str, Any]:
            outputs = {name: array.copy() for name, array in super().infer(feeds).items()}
            change(outputs)
            return outputs

    return Spoiled


def sums_in(outputs: dict[str, Any]) -> list[str]:
    """The names of the accumulators; there are none when the network runs freely."""
    return [name for name in outputs if name.endswith(".accumulator")]


def holder(model: onnx.ModelProto, layer: str) -> tuple[onnx.NodeProto, list[str]]:
    """The node that a layer is in, alone or merged with others, and the names of all of these."""
    for node in model.graph.node:
        names = {entry.key: entry.value for entry in node.metadata_props}.get(opset.LAYER_NAMES, node.name).split(",")
        if node.op_type in opset.WEIGHT_OPS and layer in names:
            return node, names
    raise AssertionError(f"no layer {layer}")


def edit(model: onnx.ModelProto, layer: str, operand: int, change: Callable[[Any], Any]) -> onnx.ModelProto:
    node, _ = holder(model, layer)
    (tensor,) = [tensor for tensor in model.graph.initializer if tensor.name == node.input[operand]]
    node.input[operand] = f"{tensor.name}.changed"
    changed = np.ascontiguousarray(change(numpy_helper.to_array(tensor).copy()))
    model.graph.initializer.append(numpy_helper.from_array(changed, node.input[operand]))
    return model


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("factory", [one_thread, ReferenceRunner], ids=["onnxruntime", "reference"])
def test_a_good_file_passes(network: str, factory: Any, deployed: Deployed, golden: Golden) -> None:
    given = deployed(network)
    folder = golden(given)
    result = replay(folder, factory)
    assert result.passed, result.failures
    assert (result.runner, result.case, result.samples, result.differences) == ("tested", "samples", 6, ())
    (case,) = read_golden(folder).cases
    assert result.accumulators == sum(
        np.prod(layer.shape) for layer in case.layers if layer.accumulator_sha256 is not None
    )
    assert result.levels == sum(golden.expected.size for golden in case.binarizations)


LAYERS = {
    "Residual": ["first", "second"],
    "Fused": ["conv", "left", "right", "pooled", "fc"],
    "Ternary": ["conv", "fc"],
    "UnipolarChain": ["first", "second"],
    "Assorted": ["grouped", "tall", "fc"],
    "Repeated": ["conv", "conv#2", "mine", "conv#3"],
}


@pytest.mark.parametrize(("network", "layer"), [(name, layer) for name, layers in LAYERS.items() for layer in layers])
def test_a_flipped_weight_bit_is_counted_and_located(
    network: str, layer: str, deployed: Deployed, golden: Golden
) -> None:
    """Bit 1 of the first word of output channel 1: the tap at the top left, of input channel 1."""
    given = deployed(network)
    _, names = holder(given.proto(), layer)
    channel = 1
    (case,) = read_golden(golden(given)).cases
    layers = {kept.record.name: kept for kept in case.layers}
    row = channel + sum(layers[name].record.weight.shape[0] for name in names[: names.index(layer)])

    def flip(words: Any) -> Any:
        words[row].flat[0] ^= 1 << 1
        return words

    result = replay(golden(given, edit(given.proto(), layer, 1, flip)))
    record, shape = layers[layer].record, layers[layer].shape
    # What that tap contributes, with the sign that it should have.
    tap = np.zeros_like(record.weight)
    kernel = (0,) * (record.weight.ndim - 2)
    tap[(channel, 1, *kernel)] = record.weight[(channel, 1, *kernel)]
    share = contribution(record, tap)
    first = result.differences[0]
    assert (first.layer, first.what) == (layer, "accumulators")
    assert (first.count, first.elements) == (np.count_nonzero(share), np.prod(shape))
    assert 0 < first.count < first.elements
    for place, index in zip(first.places, np.argwhere(share), strict=False):
        assert place.index == tuple(index) and place.index[1] == channel
        assert place.found - place.expected == -2 * share[place.index]
    assert result.failures[0] == str(first)
    assert (
        f"{first.count:,} of {first.elements:,} accumulators differ, the first at n {first.places[0].index[0]}"
        in str(first)
    )


def contribution(record: Any, weight: Any) -> Any:
    x, weight = torch.from_numpy(record.x).double(), torch.from_numpy(weight).double()
    if record.geometry is None:
        return (x @ weight.T).numpy()
    top, left, bottom, right = record.geometry.pads
    framed = F.pad(x, (left, right, top, bottom), value=record.geometry.pad_value)
    return F.conv2d(
        framed, weight, None, record.geometry.strides, 0, record.geometry.dilations, record.geometry.group
    ).numpy()


def test_only_the_layer_is_named_where_nothing_but_an_accumulator_is_off(deployed: Deployed, golden: Golden) -> None:
    """A wrong sum of one layer does not make the layers behind it look wrong: these are given recorded bits."""
    given = deployed("Residual")

    def off_by_one(outputs: dict[str, Any]) -> None:
        for name in sums_in(outputs):
            if outputs[name].shape[2] == 2:
                outputs[name][4, 33, 1, 0] += 1

    (difference,) = replay(golden(given), spoiled(off_by_one)).differences
    assert (difference.layer, difference.count, difference.elements) == ("second", 1, 6 * 34 * 4)
    (place,) = difference.places
    assert place.index == (4, 33, 1, 0) and place.found == place.expected + 1
    place_and_values = r"n 4, channel 33, row 1, column 0: -?\d+ instead of -?\d+"
    assert re.fullmatch(rf"second: 1 of 816 accumulators differ, the first at {place_and_values}", str(difference))


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.5, 2.0**31])
def test_sums_that_are_no_int32(value: float, deployed: Deployed, golden: Golden) -> None:
    given = deployed("Residual")

    def spoil(outputs: dict[str, Any]) -> None:
        for name in sums_in(outputs)[:1]:
            outputs[name][0, 1, 2, 3] = value

    (difference,) = replay(golden(given), spoiled(spoil)).differences
    assert (difference.layer, difference.count, difference.places[0].index) == ("first", 1, (0, 1, 2, 3))


def test_sums_of_another_shape(deployed: Deployed, golden: Golden) -> None:
    def spoil(outputs: dict[str, Any]) -> None:
        for name in sums_in(outputs)[:1]:
            outputs[name] = outputs[name][..., 1:]

    first, *_ = replay(golden(deployed("Residual")), spoiled(spoil)).differences
    assert (first.layer, first.count) == ("first", first.elements)


def test_half_a_step_is_a_difference(deployed: Deployed, golden: Golden) -> None:
    def spoil(outputs: dict[str, Any]) -> None:
        for name in sums_in(outputs):
            outputs[name][2, 3, 1, 1] += np.where(outputs[name][2, 3, 1, 1] > 0, 0.5, -0.5)

    differences = replay(golden(deployed("Residual")), spoiled(spoil)).differences
    assert [(entry.layer, entry.count) for entry in differences] == [("first", 1), ("second", 1)]


def test_differences_are_in_the_order_of_the_network(deployed: Deployed, golden: Golden) -> None:
    def spoil(outputs: dict[str, Any]) -> None:
        for name, array in outputs.items():
            if array.dtype == np.int32 or name.endswith(".accumulator"):
                array.flat[7] += 2

    entries = replay(golden(deployed("Residual")), spoiled(spoil)).differences
    assert list(dict.fromkeys(entry.layer for entry in entries)) == [
        "first/Binarize",
        "first",
        "second/Binarize",
        "second",
    ]


def test_a_wrong_epilogue_shows_behind_the_layer(deployed: Deployed, golden: Golden) -> None:
    """The sums are right; what the next layer reads is not."""
    given = deployed("Residual")
    result = replay(golden(given, edit(given.proto(), "first", 2, lambda scale: scale * np.float32(1.5))))
    assert not result.passed and result.accumulator_mismatches == 0
    assert (result.differences[0].layer, result.differences[0].what) == ("second/Binarize", "binarised values")
    expected = read_golden(golden(given)).cases[0].binarizations[1].expected
    for place in result.differences[0].places:
        assert (place.expected, place.found) == (expected[place.index], -expected[place.index])


def test_a_wrong_head_shows_in_the_outputs(deployed: Deployed, golden: Golden) -> None:
    given = deployed("Residual")
    model = given.proto()
    (tensor,) = [tensor for tensor in model.graph.initializer if tensor.name == "head.bias"]
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.01), tensor.name))
    result = replay(golden(given, model))
    assert result.differences == ()
    assert [failure.partition(":")[0] for failure in result.failures] == ["output 'output'"] * 2
    assert "given the recorded bits" in result.failures[0] and "running freely" in result.failures[1]
    assert result.max_abs_error > 1e-3


def test_words_that_break_the_bit_contract(deployed: Deployed, golden: Golden) -> None:
    """The unused bits of the last word: no level changes, and a kernel that counts them would be wrong."""

    def spoil(outputs: dict[str, Any]) -> None:
        for array in outputs.values():
            if array.dtype == np.int32 and array.shape[-1] == 2:
                array[2, 0, 0, 1] |= 1 << 30

    result = replay(golden(deployed("Residual")), spoiled(spoil))
    assert [(entry.layer, entry.what, entry.count) for entry in result.differences] == [
        ("first/Binarize", "packed words", 1),
        ("second/Binarize", "packed words", 1),
    ]


class Nudged(OnnxRuntimeRunner):
    """A backend whose float part is off by a little: it adds `step` to every input."""

    step = 0.0

    def infer(self, feeds: Any) -> dict[str, Any]:
        moved = {name: x + np.float32(self.step) if name == "x" else x for name, x in feeds.items()}
        return super().infer(moved)


def nudged(step: float) -> type[Nudged]:
    return type("Nudged", (Nudged,), {"step": step})


def reaching(bound: float) -> Callable[[Recording], Recording]:
    """As if rounding had been proven to reach so far."""

    def change(recording: Recording) -> Recording:
        records = [
            replace(record, exact=Exact(record.x.astype(np.float64), np.full(record.x.shape, bound)))
            for record in recording.binarizations
        ]
        return replace(recording, binarizations=tuple(records))

    return change


def all_ties(recording: Recording) -> Recording:
    """As if PyTorch had rounded every value to the other side."""
    records = [
        replace(record, exact=Exact(np.where(record.x >= 0, -1.0, 1.0), np.zeros(record.x.shape)))
        for record in recording.binarizations
    ]
    return replace(recording, binarizations=tuple(records))


class TestTies:
    @pytest.fixture
    def bundle(self, deployed: Deployed, golden: Golden) -> Callable[..., Path]:
        """A network whose first layer binarises 1.5 x, and an input with one value at -1e-7 and none else near 0."""
        given = deployed("InPlace")
        x = given.feeds["x"].copy()[:3]
        x[np.abs(x) < 0.1] = 0.5
        x[1, 2, 3, 4] = -1e-7
        return lambda **case: golden(given, feeds={"x": x}, **case)

    def test_pass(self, bundle: Callable[..., Path]) -> None:
        still = replay(bundle())
        assert still.passed and still.ties == 0 and still.first_divergence is None
        result = replay(bundle(change=reaching(1e-6)), nudged(2e-7))
        assert result.passed, result.failures
        assert (result.ties, result.first_divergence, result.level_mismatches) == (1, "first/Binarize", 0)

    def test_are_bugs_where_the_bound_is_smaller(self, bundle: Callable[..., Path]) -> None:
        result = replay(bundle(change=reaching(1e-9)), nudged(2e-7))
        (difference,) = result.differences
        assert (difference.layer, difference.count, difference.places[0].index) == ("first/Binarize", 1, (1, 2, 3, 4))
        assert "running freely, 1 binarised values differ that no rounding explains" in result.failures[-1]

    def test_a_larger_step_is_a_bug(self, bundle: Callable[..., Path]) -> None:
        result = replay(bundle(), nudged(0.2))
        assert result.differences[0].layer == "first/Binarize"
        assert result.first_divergence == "first/Binarize" and not result.passed

    def test_too_many_are_no_accident(self, deployed: Deployed, golden: Golden) -> None:
        """Every value a tie, and half of them on the other side."""
        given = deployed("InPlace")

        def negate(outputs: dict[str, Any]) -> None:
            for array in outputs.values():
                if array.dtype == np.int32:
                    array ^= 0b0101

        result = replay(golden(given, change=all_ties), spoiled(negate))
        assert result.level_mismatches == 0 and result.ties == result.levels // 2
        assert any("so many are no accident of rounding" in failure for failure in result.failures)


class TestBehindInputsThatAreNotFinite:
    """NaN and infinity may be one or the other there: integers and packed words alone are judged."""

    def test_float_values_are_not_judged(self, deployed: Deployed, golden: Golden) -> None:
        given = deployed("Residual")
        wrong = edit(given.proto(), "first", 2, lambda scale: scale * np.float32(1.5))
        result = replay(golden(given, wrong, finite=False))
        assert result.passed and (result.levels, result.ties, result.first_divergence) == (0, 0, None)
        assert not replay(golden(given, wrong)).passed

    def test_accumulators_are(self, deployed: Deployed, golden: Golden) -> None:
        def spoil(outputs: dict[str, Any]) -> None:
            outputs[sums_in(outputs)[0]][0, 0, 0, 0] += 1

        (difference,) = replay(golden(deployed("Residual"), finite=False), spoiled(spoil)).differences
        assert (difference.layer, difference.count) == ("first", 1)

    def test_nan_and_infinity_are_replayed(self, deployed: Deployed, golden: Golden) -> None:
        given = deployed("Residual")
        x = given.feeds["x"].copy()
        x[0, 0, 0, 0], x[1, 1, 2, 2] = np.nan, np.inf
        result = replay(golden(given, feeds={"x": x}, finite=False))
        assert result.passed and result.accumulators == 6 * 34 * (16 + 4), result.failures


def test_another_file_of_the_same_network(deployed: Deployed, golden: Golden) -> None:
    given = deployed("Residual")
    folder = golden(given)
    assert replay(folder, model=deployed("Residual", exporter="legacy").proto()).passed

    def flip(words: Any) -> Any:
        words[0].flat[0] ^= 1
        return words

    result = replay(folder, model=edit(given.proto(), "second", 1, flip))
    assert result.differences[0].layer == "second"


def test_a_file_of_another_network(deployed: Deployed, golden: Golden) -> None:
    result = replay(golden(deployed("Residual")), model=deployed("Ternary").proto())
    assert result.failures == (
        "conv: a layer of the file that the bundle does not have",
        "fc: a layer of the file that the bundle does not have",
        "first: a layer of the bundle that the file does not have",
        "second: a layer of the bundle that the file does not have",
        "conv/Binarize: binarised in the file, and nothing is binarised there in the bundle",
        "fc/Binarize: binarised in the file, and nothing is binarised there in the bundle",
    )


def test_a_reference_that_is_not_the_bundles(
    deployed: Deployed, golden: Golden, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then a difference cannot be counted, and this machine is at fault, or the bundle."""
    from bnn_deploy.parity.golden import verify

    def spoil(outputs: dict[str, Any]) -> None:
        outputs[sums_in(outputs)[0]] += 1

    folder = golden(deployed("Residual"))
    monkeypatch.setattr(verify, "reference_accumulator", lambda record: np.zeros((6, 34, 4, 4), np.int32))
    assert replay(folder).passed
    with pytest.raises(InputRefused, match="first: accumulators that the recorded bits and weights do not yield"):
        replay(folder, spoiled(spoil))


def test_a_swapped_padding_attribute(deployed: Deployed, golden: Golden) -> None:
    given = deployed("Residual")
    model = given.proto()
    node, _ = holder(model, "first")
    (pads,) = [entry for entry in node.attribute if entry.name == "pads"]
    pads.CopyFrom(helper.make_attribute("pads", [2, 1, 0, 1]))
    first, *_ = replay(golden(given, model)).differences
    assert (first.layer, first.what) == ("first", "accumulators")


def test_the_hash_is_that_of_the_sums(deployed: Deployed, golden: Golden) -> None:
    """Guards the fast path: equal hashes are what passes, and so the hash must be of the runner's own sums."""
    given = deployed("Residual")
    seen = []

    def keep(outputs: dict[str, Any]) -> None:
        seen.extend(outputs[name] for name in sums_in(outputs))

    folder = golden(given)
    assert replay(folder, spoiled(keep)).passed
    hashes = {layer.accumulator_sha256 for layer in read_golden(folder).cases[0].layers}
    assert {sha256_of_integers(array.astype(np.int32)) for array in seen} == hashes


def test_a_file_of_half_precision(deployed: Deployed, golden: Golden, tmp_path: Path) -> None:
    """Its integers are the same; what rounding may do is measured in its own unit."""
    from bnn_deploy.export import export_onnx

    given = deployed("Residual")
    export_onnx(
        given.module, [torch.zeros(shape) for shape in given.module.shapes], tmp_path / "h.onnx", precision="fp16"
    )
    half = onnx.load(str(tmp_path / "h.onnx"))
    folder = golden(given, half)
    result = replay(folder)
    assert result.passed, result.failures
    tolerance = read_golden(folder).cases[0].tolerances["output"]
    assert read_golden(golden(given)).cases[0].tolerances["output"] < result.max_abs_error < tolerance
