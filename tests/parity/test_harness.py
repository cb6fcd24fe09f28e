"""The harness must be able to fail: a bug of every kind is planted, and has to be found where it was planted."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from bnn_deploy.functions import function_body
from bnn_deploy.parity import RunnerResult
from bnn_deploy.parity.points import PackPoint
from bnn_deploy.runners.onnxruntime import OnnxRuntimeRunner
from bnn_deploy.runners.reference import ReferenceRunner

Array = np.ndarray[Any, Any]
Verdict = Callable[..., RunnerResult]
Deployed = Callable[..., Any]
Plant = Callable[[onnx.ModelProto], None]
Spoil = Callable[[str, Array], Array]
WEIGHT, SCALE, BIAS = 1, 2, 3
LOWER, UPPER = 2, 3  # of a layer that writes bits alone
SLOPE, SHIFT = 5, 6  # of a layer with a shortcut
SUMS = r"\d+ of \d+ accumulators differ"


def node(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    (found,) = [node for node in model.graph.node if node.name == name]
    return found


def edit(layer: str, index: int, change: Callable[[Array], Array]) -> Plant:
    """Changes a constant operand of a node."""

    def plant(model: onnx.ModelProto) -> None:
        found = node(model, layer)
        (tensor,) = [tensor for tensor in model.graph.initializer if tensor.name == found.input[index]]
        changed = np.ascontiguousarray(change(numpy_helper.to_array(tensor).copy()))
        # Under a name of its own: nodes may share a constant.
        found.input[index] = f"{tensor.name}.changed"
        model.graph.initializer.append(numpy_helper.from_array(changed, found.input[index]))

    return plant


def attributes(layer: str, **values: Any) -> Plant:
    """Changes attributes of a node."""

    def plant(model: onnx.ModelProto) -> None:
        found = node(model, layer)
        for entry in list(found.attribute):
            if entry.name in values:
                found.attribute.remove(entry)
        found.attribute.extend(helper.make_attribute(name, value) for name, value in values.items())

    return plant


def flip_one_bit(words: Array) -> Array:
    words.flat[16] ^= 1 << 1
    return words


def flip_the_diagonal(words: Array) -> Array:
    return words ^ np.eye(*words.shape, dtype=words.dtype)


def reverse_bits(words: Array) -> Array:
    bits = np.unpackbits(words.view(np.uint8), bitorder="little").reshape(-1, 32)
    return np.packbits(bits[:, ::-1], bitorder="little").view(np.int32).reshape(words.shape)


def reverse_words(words: Array) -> Array:
    return words[..., ::-1]


def turn(words: Array) -> Array:
    return words[:, ::-1, ::-1]


def swap_two_channels(words: Array) -> Array:
    words[[0, 1]] = words[[1, 0]]
    return words


def a_thousandth_more(scale: Array) -> Array:
    return scale * np.float32(1.001)


def negate_the_last(scale: Array) -> Array:
    scale[-1] *= -1
    return scale


def plus_2(bounds: Array) -> Array:
    return bounds + np.float32(2)


def plus_a_half(threshold: Array) -> Array:
    return threshold + np.float32(0.5)


def bypass(model: onnx.ModelProto) -> None:
    """Takes the layer `second` out: what read its output reads that of `first`."""
    layer = node(model, "second")
    for other in model.graph.node:
        for index, name in enumerate(other.input):
            if name == layer.output[0]:
                other.input[index] = node(model, "first").output[0]
    model.graph.node.remove(layer)


def read_other_bits(model: onnx.ModelProto) -> None:
    """`second` reads what `first` reads."""
    node(model, "second").input[0] = node(model, "first").input[0]


def pack_strictly(model: onnx.ModelProto) -> None:
    """x > 0 in place of x >= 0."""
    pack = node(model, "first/Binarize")
    assert pack.op_type == "PackBipolar"
    pack.op_type = "PackUnipolar"
    model.functions.append(function_body("PackUnipolar"))


def exchange_bounds(model: onnx.ModelProto) -> None:
    layer = node(model, "grouped")
    assert layer.op_type == "PackedConv2dBits"
    layer.input[LOWER], layer.input[UPPER] = layer.input[UPPER], layer.input[LOWER]


def invert_pool(model: onnx.ModelProto) -> None:
    """OR for AND, and AND for OR."""
    (pool,) = [node for node in model.graph.node if node.op_type == "PackedMaxPool2d"]
    edit(pool.name, 1, np.invert)(model)


def double_residual(model: onnx.ModelProto) -> None:
    """Adds the residual twice, wherever it is added."""
    (add,) = [node for node in model.graph.node if "Add" in node.op_type]
    residual = list(add.input).index(node(model, "first/Binarize").input[0])
    (producer,) = [node for node in model.graph.node if add.input[residual] in node.output]
    doubled = helper.make_node("Add", [add.input[residual]] * 2, ["doubled"])
    add.input[residual] = "doubled"
    model.graph.node.insert(list(model.graph.node).index(producer) + 1, doubled)


# What was done -> (network, the change, what the harness must say).
PLANTED: dict[str, tuple[str, Plant, str]] = {
    "one flipped bit": ("Residual", edit("first", WEIGHT, flip_one_bit), f"first: {SUMS}"),
    "one flipped bit, ternary": ("Ternary", edit("conv", WEIGHT, flip_one_bit), f"conv: {SUMS}"),
    "one flipped bit in the third call": ("Repeated", edit("conv#3", WEIGHT, flip_one_bit), f"conv#3: {SUMS}"),
    "one flipped bit, fully connected": ("Ternary", edit("fc", WEIGHT, flip_the_diagonal), f"fc: {SUMS}"),
    "one flipped bit, float activations": (
        "Assorted",
        edit("weights_only", WEIGHT, flip_one_bit),
        "weights_only: the epilogue is off by",
    ),
    "bits reversed in each word": ("Residual", edit("second", WEIGHT, reverse_bits), f"second: {SUMS}"),
    "words in the other order": ("Residual", edit("first", WEIGHT, reverse_words), f"first: {SUMS}"),
    "output channels swapped": ("Residual", edit("second", WEIGHT, swap_two_channels), f"second: {SUMS}"),
    "kernel turned by 180 degrees": ("Residual", edit("first", WEIGHT, turn), f"first: {SUMS}"),
    "padding one pixel off": ("Residual", attributes("first", pads=[0, 0, 2, 2]), f"first: {SUMS}"),
    "padding one row off": ("Residual", attributes("first", pads=[2, 1, 0, 1]), f"first: {SUMS}"),
    "padding of -1 for 0": ("Residual", attributes("second", pad_value=-1.0), f"second: {SUMS}"),
    "padding of 0 for 1": ("Assorted", attributes("tall", pad_value=0.0), f"tall: {SUMS}"),
    "stride of 3 for 2": ("Residual", attributes("second", strides=[3, 3]), f"second: {SUMS}"),
    "no dilation": ("Assorted", attributes("grouped", dilations=[1, 1], pads=[1, 1, 1, 1]), f"grouped: {SUMS}"),
    "levels of 0 and 1": ("Residual", attributes("first", low=0.0), f"first: {SUMS}"),
    "the bits of another binarisation": ("Residual", read_other_bits, f"second: {SUMS}"),
    "scale off by a thousandth": ("Residual", edit("first", SCALE, a_thousandth_more), "second/Binarize: "),
    "last scale off by a thousandth": ("Residual", edit("second", SCALE, a_thousandth_more), "output 'output': off"),
    "scale of one channel negated": ("Residual", edit("first", SCALE, negate_the_last), "second/Binarize: "),
    "bias with the other sign": ("Residual", edit("first", BIAS, np.negative), "second/Binarize: "),
    "residual added twice": ("Residual", double_residual, "second/Binarize: "),
    "threshold of 0.5": ("InPlace", edit("first/Binarize", 1, plus_a_half), "first/Binarize: "),
    "0 taken for -1": ("InPlace", pack_strictly, r"first/Binarize: \d+ packed words break the bit contract"),
    "bounds of the sums off by two": ("Assorted", edit("grouped", LOWER, plus_2), "tall/Binarize: "),
    "bounds of the sums exchanged": ("Assorted", exchange_bounds, "tall/Binarize: "),
    "one flipped bit in one of two merged layers": (
        "Fused",
        edit("left+right", WEIGHT, flip_one_bit),
        rf"left\+right: {SUMS}",
    ),
    "a slope negated": ("Fused", edit("conv", SLOPE, np.negative), "twin_sign/Binarize: "),
    "a shift with the other sign": ("Fused", edit("conv", SHIFT, np.negative), "twin_sign/Binarize: "),
    "a pool that takes the least": ("Fused", invert_pool, "pooled/Binarize: "),
    "a stem's weights turned": ("Stemmed", edit("stem", 1, lambda weight: weight[::-1]), "first/Binarize: "),
    "a shortcut's weights turned": ("Stemmed", edit("shortcut", 1, lambda weight: weight[::-1]), "second/Binarize: "),
    "a layer is missing": ("Residual", bypass, "second: missing in the file"),
    "the float head turned": ("Residual", edit("head", 1, lambda weight: weight[::-1]), "output 'output': off by "),
}


@pytest.mark.parametrize("runner", [OnnxRuntimeRunner, ReferenceRunner])
@pytest.mark.parametrize(
    "network",
    [
        "Residual",
        "Fused",
        "Ternary",
        "Unipolar",
        "Assorted",
        "Repeated",
        "Rectified",
        "InPlace",
        "TwoInputs",
        "Stemmed",
    ],
)
def test_a_good_file_passes(network: str, runner: Any, deployed: Deployed, verdict: Verdict) -> None:
    result = verdict(deployed(network), factory=runner)
    assert result.failures == () and result.passed
    assert result.accumulator_mismatches == 0
    assert result.samples == 6
    assert all(layer.passed for layer in result.layers) and all(entry.passed for entry in result.binarizations)
    assert sum(layer.elements for layer in result.layers) > 0


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_found_and_named(bug: str, deployed: Deployed, verdict: Verdict) -> None:
    network, plant, wanted = PLANTED[bug]
    given = deployed(network)
    model = given.proto()
    plant(model)
    assert model.SerializeToString() != given.proto().SerializeToString()
    result = verdict(given, model)
    assert not result.passed
    assert any(re.match(wanted, failure) for failure in result.failures), result.failures
    where = wanted.split(":")[0].replace("\\", "")
    judged = {layer.layer: layer.passed for layer in result.layers}
    judged |= {entry.layer: entry.passed for entry in result.binarizations}
    assert not judged.get(where, False)
    # Teacher forcing keeps an error where it is: no other layer is blamed for wrong sums.
    blamed = {layer.layer for layer in result.layers if layer.accumulator_mismatches}
    assert blamed <= {where}, blamed


def test_a_layer_left_float_is_missing(
    networks: ModuleType, deployed: Deployed, verdict: Verdict, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from bnn_deploy.export import export_onnx

    given, folder = deployed("Residual"), tmp_path_factory.mktemp("float")
    export_onnx(given.module, torch.zeros(1, 3, 4, 4), folder / "model.onnx", float_path=folder / "float.onnx")
    result = verdict(given, onnx.load(str(folder / "float.onnx")))
    assert [failure for failure in result.failures if "left as a float layer" in failure] == [
        "first: missing in the file, left as a float layer, or of no use to the outputs",
        "second: missing in the file, left as a float layer, or of no use to the outputs",
    ]


def test_the_file_of_another_seed(deployed: Deployed, verdict: Verdict) -> None:
    result = verdict(deployed("Residual"), deployed("Residual", seed=1).proto())
    assert {layer.layer for layer in result.layers if layer.accumulator_mismatches} == {"first", "second"}


def test_the_file_of_another_network(deployed: Deployed, verdict: Verdict) -> None:
    result = verdict(deployed("Rectified"), deployed("InPlace").proto(), feeds=deployed("Rectified").feeds)
    assert "first: not a layer of the PyTorch network; the file is of another model" in result.failures
    assert "conv: missing in the file, left as a float layer, or of no use to the outputs" in result.failures


class Broken(OnnxRuntimeRunner):
    """A backend that spoils what it computes."""

    def __init__(self, model: onnx.ModelProto, spoil: Spoil) -> None:
        super().__init__(model, threads=1)
        self._spoil = spoil
        self.forced = any(name.endswith(".forced") for name in self.inputs)

    def infer(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self._spoil(name, array) for name, array in super().infer(feeds).items()}


def only_sums(spoil: Callable[[Array], Array]) -> Spoil:
    """Spoils the accumulators."""
    return lambda name, array: spoil(array) if name.endswith(".accumulator") else array


def only_outputs(spoil: Callable[[Array], Array]) -> Spoil:
    """Spoils the outputs of the network."""
    return lambda name, array: spoil(array) if name == "output" else array


def to_nan(array: Array) -> Array:
    return np.full_like(array, np.nan) if array.dtype == np.float32 else array


def one_nan(array: Array) -> Array:
    array = array.copy()
    array.flat[7] = np.nan
    return array


def last_row_plus_1(array: Array) -> Array:
    array = array.copy()
    array[..., -1, :] += 1
    return array


def by_a_thousandth(array: Array) -> Array:
    return array * np.float32(1.001)


OUTPUT_IS_OFF = "output 'output': off by "
SPOILED: dict[str, tuple[Spoil, str]] = {
    "sums that are NaN": (only_sums(to_nan), f"first: {SUMS}"),
    "outputs that are NaN": (only_outputs(to_nan), f"{OUTPUT_IS_OFF}inf"),
    "everything NaN": (lambda _, array: to_nan(array), f"first: {SUMS}"),
    "one NaN among the outputs": (only_outputs(one_nan), f"{OUTPUT_IS_OFF}inf"),
    "samples in the other order": (lambda _, array: array[::-1], f"first: {SUMS}"),
    "a sample too few": (lambda _, array: array[:-1], f"first: {SUMS}"),
    "one sample for all": (lambda _, array: np.broadcast_to(array[:1], array.shape), f"first: {SUMS}"),
    "height and width swapped": (only_sums(lambda array: array.swapaxes(2, 3)), f"first: {SUMS}"),
    "the last row off by one": (only_sums(last_row_plus_1), f"first: {SUMS}"),
    "outputs off by a thousandth": (only_outputs(by_a_thousandth), OUTPUT_IS_OFF),
    "an output of another shape": (only_outputs(lambda array: array[:, :, None]), f"{OUTPUT_IS_OFF}inf"),
}


@pytest.mark.parametrize("bug", SPOILED)
def test_a_runner_that_spoils_what_it_computes(bug: str, deployed: Deployed, verdict: Verdict) -> None:
    spoil, wanted = SPOILED[bug]
    result = verdict(deployed("Residual"), factory=lambda model: Broken(model, spoil))
    assert not result.passed
    assert any(re.match(wanted, failure) for failure in result.failures), result.failures


def test_a_tie_in_front_of_a_float_layer_is_a_tie(deployed: Deployed, verdict: Verdict) -> None:
    """A sum of 0 that float32 makes a little more or less of: the layer behind it is given the reference's signs."""
    result = verdict(deployed("FloatBehindBinary"))
    assert result.passed, result.failures
    (binarization,) = [one for one in result.binarizations if one.layer == "second/Binarize"]
    assert binarization.sign_flips == binarization.ties > 0


def test_a_planted_bug_in_front_of_a_float_layer(deployed: Deployed, verdict: Verdict) -> None:
    given = deployed("FloatBehindBinary")
    model = given.proto()
    edit("first", BIAS, lambda bias: bias + np.float32(10))(model)
    result = verdict(given, model)
    assert any(re.match(r"second/Binarize: \d+ signs differ", failure) for failure in result.failures), result.failures


@pytest.mark.parametrize(
    ("analysed", "wanted"), [(True, "signs differ that no rounding explains"), (False, "signs differ by a tie each")]
)
def test_so_many_ties_are_none(
    analysed: bool, wanted: str, deployed: Deployed, verdict: Verdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of what a ReLU puts out is exactly 0 and no rounding moves it; unproven, each would pass for a tie."""

    def bipolar(self: PackPoint, words: Array, shape: tuple[int, ...]) -> Array:
        levels = read_levels(self, words, shape)
        return np.where(levels == 0, -1, levels)

    read_levels = PackPoint.read_levels
    monkeypatch.setattr(PackPoint, "read_levels", bipolar)
    result = verdict(deployed("UnipolarChain"), analysed=analysed)
    assert any(wanted in failure for failure in result.failures), result.failures


def test_an_error_that_only_a_free_run_has(deployed: Deployed, verdict: Verdict) -> None:
    """Right with given bits, wrong alone: only the second half of the harness can see it."""

    def factory(model: onnx.ModelProto) -> Broken:
        runner = Broken(model, lambda name, array: array)
        if not runner.forced:
            runner._spoil = lambda name, array: array + np.float32(0.5) if name == "output" else array
        return runner

    result = verdict(deployed("Residual"), factory=factory)
    (failure,) = result.failures
    assert re.match(r"output 'output': off by 0\.5 .* though all signs agree", failure)
    assert result.free_run is not None and result.free_run.max_abs_error == pytest.approx(0.5, rel=1e-4)


def test_an_error_in_the_bits_of_a_free_run(deployed: Deployed, verdict: Verdict) -> None:
    def factory(model: onnx.ModelProto) -> Broken:
        runner = Broken(model, lambda name, array: array)
        if not runner.forced:
            runner._spoil = lambda name, array: array ^ 1 if array.dtype == np.int32 else array
        return runner

    result = verdict(deployed("Residual"), factory=factory)
    (failure,) = result.failures
    assert re.match(r"first/Binarize: end to end, \d+ of \d+ signs differ that no rounding explains", failure)
    assert result.free_run is not None and result.free_run.first_divergence == "first/Binarize"


def test_what_a_runner_refuses_passes_through(deployed: Deployed, verdict: Verdict) -> None:
    class Refusing(OnnxRuntimeRunner):
        def infer(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        verdict(deployed("Residual"), factory=Refusing)


def test_the_pytorch_network_is_judged_too(deployed: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own sums must be the integers; a network that adds something to a layer's output is no reference."""
    from bnn_deploy.nn import functional
    from bnn_deploy.parity import check
    from bnn_deploy.runners.pytorch import PyTorchRunner

    given, original = deployed("Rectified"), functional._eager_conv2d
    monkeypatch.setattr(functional, "_eager_conv2d", lambda *operands: original(*operands) * 1.5)
    results = check(PyTorchRunner(given.module, ["x"], ["output"]), given.proto(), {}, given.feeds)
    (failure,) = results["pytorch"].failures
    assert re.match(f"conv: {SUMS}", failure)
