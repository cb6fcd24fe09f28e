"""Values on thresholds, beside them, and such as are no numbers, given to every binarisation of a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from bnn_deploy.export import export_onnx
from bnn_deploy.functions import function_body
from bnn_deploy.native import find_library
from bnn_deploy.parity.adversarial import probe, probe_values
from bnn_deploy.parity.instrument import observed
from bnn_deploy.runners.native_cpu import NativeCpuRunner
from bnn_deploy.runners.onnxruntime import OnnxRuntimeRunner
from bnn_deploy.runners.reference import ReferenceRunner

Deployed = Callable[..., Any]
needs_library = pytest.mark.skipif(find_library() is None, reason="the native library is not built")
RUNNERS = [OnnxRuntimeRunner, pytest.param(NativeCpuRunner, marks=needs_library), ReferenceRunner]


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("network", ["Residual", "Fused", "Ternary", "Unipolar", "Assorted", "UnipolarChain"])
def test_every_runner_keeps_the_contract(network: str, runner: Any, deployed: Deployed) -> None:
    model = deployed(network).proto()
    results = probe(model, runner)
    assert [result for result in results if not result.passed] == []
    probed = {result.layer for result in results}
    compared = {point.name for point in observed(model).packs}
    assert probed <= compared and probed
    for layer in probed:
        kinds = {result.probe for result in results if result.layer == layer}
        assert {"zeros", "negative zeros", "NaN", "infinities", "the smallest denormals"} <= kinds
    assert all(result.elements > 0 for result in results)


def test_thresholds_and_the_floats_beside_them(deployed: Deployed) -> None:
    for point in observed(deployed("Fused").proto()).packs:
        values = probe_values(point)
        for name in [name for name in values if name.startswith("the float above ")]:
            edge = values[name.removeprefix("the float above ")]
            below = values[name.replace("above", "below")]
            finite = np.isfinite(edge)
            assert (values[name][finite] > edge[finite]).all() and (below[finite] < edge[finite]).all()
            between = (values[name][finite].astype(np.float64) + edge[finite]) / 2
            assert np.isin(between.astype(np.float32), [values[name][finite], edge[finite]]).all()


def strict(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        if node.op_type == "PackBipolar":
            node.op_type = "PackUnipolar"
    model.functions.append(function_body("PackUnipolar"))


def test_sign_of_zero_the_other_way_is_found(deployed: Deployed) -> None:
    def broken(model: onnx.ModelProto) -> OnnxRuntimeRunner:
        changed = onnx.ModelProto()
        changed.CopyFrom(model)
        strict(changed)
        return OnnxRuntimeRunner(changed)

    results = probe(deployed("InPlace").proto(), broken)
    wrong = {result.probe for result in results if not result.passed}
    assert wrong == {"zeros", "negative zeros", "the threshold"}


@pytest.mark.parametrize("step", [-1, 1])
def test_a_threshold_off_by_one_float_is_found(step: int, deployed: Deployed) -> None:
    """In a runner that compares with the neighbour of the file's bound."""

    def broken(model: onnx.ModelProto) -> OnnxRuntimeRunner:
        changed = onnx.ModelProto()
        changed.CopyFrom(model)
        for node in changed.graph.node:
            if node.op_type.endswith("Pack") or node.op_type == "PackInterval":
                for tensor in changed.graph.initializer:
                    if tensor.name == node.input[-2]:
                        lower = onnx.numpy_helper.to_array(tensor)
                        moved = np.nextafter(lower, np.float32(step * np.inf))
                        tensor.CopyFrom(onnx.numpy_helper.from_array(moved, tensor.name))
        return OnnxRuntimeRunner(changed)

    results = probe(deployed("Fused").proto(), broken)
    wrong = {result.probe for result in results if not result.passed}
    assert ("the lower bound" if step == 1 else "the float below the lower bound") in wrong


def test_a_file_without_binarisations_has_none() -> None:
    assert probe(onnx.ModelProto(), OnnxRuntimeRunner) == []


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_file_of_float16(runner: Any, networks: ModuleType, tmp_path: Path) -> None:
    """Its layers decide their bits in float32, before they round what they write."""
    module = networks.make("Residual")
    export_onnx(module, [torch.zeros(shape) for shape in module.shapes], tmp_path / "m.onnx", precision="fp16")
    results = probe(onnx.load(str(tmp_path / "m.onnx")), runner)
    assert results and all(result.passed for result in results), [result for result in results if not result.passed]
