"""Seven classic bugs, in the file and in each runner while the file is right: each is caught, named and located."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from bnn_deploy.functions import function_body
from bnn_deploy.native import find_library
from bnn_deploy.parity import RunnerResult
from bnn_deploy.parity.twins import accumulator_name
from bnn_deploy.runners.native_cpu import NativeCpuRunner
from bnn_deploy.runners.onnxruntime import OnnxRuntimeRunner
from bnn_deploy.runners.reference import ReferenceRunner

Array = np.ndarray[Any, Any]
Verdict = Callable[..., RunnerResult]
Deployed = Callable[..., Any]
Plant = Callable[[onnx.ModelProto], None]

needs_library = pytest.mark.skipif(find_library() is None, reason="the native library is not built")
RUNNERS = [
    OnnxRuntimeRunner,
    pytest.param(lambda model: OnnxRuntimeRunner(model, optimise=False), id="unoptimised"),
    pytest.param(NativeCpuRunner, marks=needs_library),
    ReferenceRunner,
]


def nodes(model: onnx.ModelProto, layer: str) -> list[onnx.NodeProto]:
    """The layer, and the twin that the harness reads its accumulator from: a kernel is wrong in both."""
    (node,) = [node for node in model.graph.node if node.name == layer]
    return [node, *(twin for twin in model.graph.node if twin.output[0] == accumulator_name(node))]


def edit(layer: str, index: int, change: Callable[[Array], Array], *, twin: bool) -> Plant:
    def plant(model: onnx.ModelProto) -> None:
        for node in nodes(model, layer)[: None if twin else 1]:
            (tensor,) = [tensor for tensor in model.graph.initializer if tensor.name == node.input[index]]
            changed = np.ascontiguousarray(change(numpy_helper.to_array(tensor).copy()))
            node.input[index] = f"{node.output[0]}.changed.{index}"
            model.graph.initializer.append(numpy_helper.from_array(changed, node.input[index]))

    return plant


def pads(layer: str, values: list[int]) -> Plant:
    def plant(model: onnx.ModelProto) -> None:
        for node in nodes(model, layer):
            for entry in list(node.attribute):
                if entry.name == "pads":
                    node.attribute.remove(entry)
            node.attribute.append(helper.make_attribute("pads", values))

    return plant


def flip_one_bit(words: Array) -> Array:
    words.flat[16] ^= 1 << 5
    return words


def swap_channels(words: Array) -> Array:
    words[[0, 1]] = words[[1, 0]]
    return words


def one_ulp_more(scale: Array) -> Array:
    scale[5] = np.nextafter(scale[5], np.float32(np.inf))
    return scale


def other_direction(model: onnx.ModelProto) -> None:
    """The first fused binarisation takes the values below its threshold for those above."""
    (node,) = nodes(model, "first")[:1]
    lower, upper = (
        numpy_helper.to_array(next(tensor for tensor in model.graph.initializer if tensor.name == name))
        for name in node.input[-2:]
    )
    assert np.isposinf(upper).all()
    for place, array in ((-2, np.full_like(lower, -np.inf)), (-1, lower)):
        node.input[place] = f"turned.{place}"
        model.graph.initializer.append(numpy_helper.from_array(array, node.input[place]))


def zero_is_minus_one(model: onnx.ModelProto) -> None:
    """x > 0 in place of x >= 0."""
    packs = [node for node in model.graph.node if node.op_type == "PackBipolar"]
    assert packs
    for pack in packs:
        pack.op_type = "PackUnipolar"
    if "PackUnipolar" not in {function.name for function in model.functions}:
        model.functions.append(function_body("PackUnipolar"))


BUGS: dict[str, tuple[str, Plant, str, str]] = {
    # what -> (network, how, what is said of a wrong file, what is said of a wrong runner)
    "a flipped bit": (
        "Residual",
        edit("first", 1, flip_one_bit, twin=True),
        r"first: \d+ of \d+ accumulators differ",
        r"first: \d+ of \d+ accumulators differ",
    ),
    "a pad off by one": (
        "Residual",
        pads("second", [2, 1, 0, 1]),
        r"second: \d+ of \d+ accumulators differ",
        r"second: \d+ of \d+ accumulators differ",
    ),
    "swapped channels": (
        "Residual",
        edit("second", 1, swap_channels, twin=True),
        r"second: \d+ of \d+ accumulators differ",
        r"second: \d+ of \d+ accumulators differ",
    ),
    "a scale off by a unit in the last place": (
        "Residual",
        edit("first", 2, one_ulp_more, twin=False),
        r"first: the scale of 1 of 34 channels is not the PyTorch network's, rounded once; that of channel 5 is off by",
        r"first: the epilogue of \d+ of \d+ values is not the documented one",
    ),
    "a threshold the wrong way": (
        "Residual",
        other_direction,
        r"second/Binarize: \d+ signs differ that no rounding explains",
        r"second/Binarize: \d+ packed words break the bit contract",
    ),
    "sign(0) the other way": (
        "InPlace",
        zero_is_minus_one,
        r"first/Binarize: \d+ packed words break the bit contract",
        r"first/Binarize: \d+ packed words break the bit contract",
    ),
}


@pytest.mark.parametrize("bug", BUGS)
def test_in_the_file(bug: str, deployed: Deployed, verdict: Verdict) -> None:
    network, plant, wanted, _ = BUGS[bug]
    model = deployed(network).proto()
    plant(model)
    found = verdict(deployed(network), model)
    assert any(re.match(wanted, failure) for failure in found.failures), found.failures


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("bug", BUGS)
def test_in_a_runner(bug: str, runner: Any, deployed: Deployed, verdict: Verdict) -> None:
    """The file is right; the backend computes something else of it."""
    network, plant, _, wanted = BUGS[bug]

    def broken(model: onnx.ModelProto) -> Any:
        changed = onnx.ModelProto()
        changed.CopyFrom(model)
        plant(changed)
        return runner(changed)

    found = verdict(deployed(network), factory=broken)
    assert any(re.match(wanted, failure) for failure in found.failures), found.failures
    where = wanted.split(":")[0]
    blamed = {layer.layer for layer in found.layers if layer.accumulator_mismatches}
    assert blamed <= {where}


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        (lambda weight: weight[3].neg_(), r"first: \d+ of \d+ accumulators differ"),
        (lambda weight: weight[7].mul_(1 + 2**-20), r"first: the scale of 1 of 34 channels is not"),
    ],
)
def test_stale_weights(
    changed: Callable[[torch.Tensor], Any], wanted: str, networks: Any, deployed: Deployed, verdict: Verdict
) -> None:
    """The file was exported before the weights changed; the second time no sign did, only a mean by a millionth."""
    given = deployed("Residual")
    module = networks.make("Residual")
    with torch.no_grad():
        changed(module.first.weight)
    later = type(given)(module, given.path, given.feeds)
    found = verdict(later)
    assert any(re.match(wanted, failure) for failure in found.failures), found.failures
