"""A failure is reduced to the node that was spoilt and to an input that could not be smaller."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from bnn_deploy import reproduce
from bnn_deploy.errors import InputRefused
from bnn_deploy.export import export_onnx
from bnn_deploy.functions import function_body
from bnn_deploy.parity.reduction.bisect import bisect, bisect_probe
from bnn_deploy.parity.reduction.case import FILE, RUNNER, ReducedCase
from bnn_deploy.runners.onnxruntime import OnnxRuntimeRunner

Deployed = Callable[..., Any]
Factory = Callable[[onnx.ModelProto], Any]
WEIGHT, SCALE = 1, 2
NETWORKS = ("Residual", "Fused", "Ternary", "Unipolar", "Assorted", "Repeated", "Rectified", "InPlace", "TwoInputs")


def one_thread(model: onnx.ModelProto) -> OnnxRuntimeRunner:
    return OnnxRuntimeRunner(model, threads=1)


def reduce(given: Any, model: onnx.ModelProto | None = None, factory: Factory = one_thread, **options: Any) -> Any:
    model = given.proto() if model is None else model
    return bisect(model, "onnxruntime", factory, given.feeds, given.record(), **options)


def spoilt(given: Any, layer: str, operand: int, change: Callable[[Any], Any]) -> onnx.ModelProto:
    """The file with one constant operand of a node changed."""
    model = given.proto()
    (node,) = [node for node in model.graph.node if node.name == layer]
    (tensor,) = [tensor for tensor in model.graph.initializer if tensor.name == node.input[operand]]
    node.input[operand] = f"{tensor.name}.changed"
    changed = np.ascontiguousarray(change(numpy_helper.to_array(tensor).copy()))
    model.graph.initializer.append(numpy_helper.from_array(changed, node.input[operand]))
    return model


def flip_one_bit(words: Any) -> Any:
    words.flat[16] ^= 1 << 1
    return words


def operand(model: onnx.ModelProto, name: str, index: int) -> onnx.TensorProto:
    (node,) = [node for node in model.graph.node if node.name == name]
    (tensor,) = [tensor for tensor in model.graph.initializer if tensor.name == node.input[index]]
    return tensor


def script(folder: Path) -> int:
    return subprocess.run([sys.executable, str(folder / "reproduce.py")], capture_output=True).returncode


@pytest.mark.parametrize("network", NETWORKS)
def test_a_good_file_has_no_case(network: str, deployed: Deployed) -> None:
    assert reduce(deployed(network)) is None


@pytest.mark.parametrize(
    ("network", "layer"),
    [
        ("Residual", "first"),
        ("Residual", "second"),
        ("Ternary", "conv"),
        ("Repeated", "conv#3"),
        ("Fused", "left+right"),
    ],
)
def test_a_flipped_bit_of_a_weight(network: str, layer: str, deployed: Deployed, tmp_path: Path) -> None:
    given = deployed(network)
    case = reduce(given, spoilt(given, layer, WEIGHT, flip_one_bit))
    assert (case.layers, case.cause, case.kind) == ((layer,), FILE, "differs")
    # One sample, an image no larger than the kernel, and hardly a bit set in it.
    for name, array in case.inputs.items():
        assert array.shape[0] == 1 and np.count_nonzero(array) <= 1, name
        assert array[0].size <= 2 * 2 * 34
    # One bit of a weight: one output channel is off, at one pixel.
    assert sum(entry["differ"] for entry in case.differences.values()) == 1

    folder = case.write(tmp_path / "case")
    assert script(folder) == 1
    mended = onnx.load(str(folder / "case.onnx"))
    operand(mended, layer, WEIGHT).CopyFrom(
        numpy_helper.from_array(
            numpy_helper.to_array(operand(given.proto(), layer, WEIGHT)), operand(mended, layer, WEIGHT).name
        )
    )
    onnx.save(mended, str(folder / "case.onnx"))
    assert script(folder) == 0


def test_a_wrong_float_weight_is_within_the_stretch_that_the_recording_bounds(deployed: Deployed) -> None:
    """The recording has the real values in front of a binarisation and the outputs, and nothing between."""
    given = deployed("Residual")
    case = reduce(given, spoilt(given, "head", WEIGHT, lambda weight: weight[::-1]))
    assert case.layers[0] == "second" and case.layers[-1] == "head" and "first" not in case.layers
    assert case.cause == FILE and list(case.expected) == ["output"]
    assert "one of them holds something else" in case.summary
    assert all(array.shape[0] == 1 for array in case.inputs.values())


@pytest.mark.parametrize("layer", ["first", "second"])
def test_a_wrong_scale_is_found_alone(layer: str, deployed: Deployed) -> None:
    given = deployed("Residual")
    case = reduce(given, spoilt(given, layer, SCALE, lambda scale: scale * np.float32(1.01)))
    assert case.layers == (layer,) and case.cause == FILE


@pytest.mark.parametrize("operand_index", [SCALE, SCALE + 1], ids=("scale", "bias"))
@pytest.mark.parametrize("layer", ["first", "second"])
def test_a_constant_off_by_one_unit_in_the_last_place(
    layer: str, operand_index: int, deployed: Deployed, tmp_path: Path
) -> None:
    """Far within what counts as rounding. What it should be is what the runner makes of the right constant."""
    given = deployed("Residual")

    def next_float(values: Any) -> Any:
        return np.nextafter(values, np.float32(np.inf))

    case = reduce(given, spoilt(given, layer, operand_index, next_float))
    assert case.layers == (layer,) and case.cause == FILE
    assert script(case.write(tmp_path / "case")) == 1
    (tmp_path / "case" / "case.onnx").write_bytes(mended_case(case, given, layer, operand_index))
    assert script(tmp_path / "case") == 0


def mended_case(case: Any, given: Any, layer: str, operand_index: int) -> bytes:
    """The model of a case with the constant that the good file has."""
    right, model = operand(given.proto(), layer, operand_index), onnx.ModelProto()
    model.CopyFrom(case.model)
    wrong = operand(model, layer, operand_index)
    wrong.raw_data = numpy_helper.to_array(right).tobytes()
    return model.SerializeToString()


def adjacent(model: onnx.ModelProto, first: str, second: str) -> list[str]:
    """The outputs of nodes of type `second` that read one of type `first`."""
    made = {name for node in model.graph.node if node.op_type == first for name in node.output}
    return [node.output[0] for node in model.graph.node if node.op_type == second and made & set(node.input)]


class FusesWrongly(OnnxRuntimeRunner):
    """A backend whose fusion of two ops is off by one; each op by itself is right."""

    pair = ("ReduceMean", "Gemm")

    def __init__(self, model: onnx.ModelProto) -> None:
        broken = onnx.ModelProto()
        broken.CopyFrom(model)
        for name in adjacent(model, *self.pair):
            node = next(node for node in broken.graph.node if node.output[0] == name)
            node.output[0] = f"{name}.right"
            one = numpy_helper.from_array(np.ones(1, np.float32), f"{name}.one")
            broken.graph.initializer.append(one)
            place = list(broken.graph.node).index(node) + 1
            broken.graph.node.insert(place, helper.make_node("Add", [node.output[0], one.name], [name]))
        super().__init__(broken, threads=1)


class FusesBitsWrongly(FusesWrongly):
    pair = ("PackedConv2dAddPack", "PackedConv2d")


@pytest.mark.parametrize(
    ("factory", "layers"), [(FusesWrongly, ("ReduceMean", "Gemm")), (FusesBitsWrongly, FusesBitsWrongly.pair)]
)
def test_an_error_of_two_ops_side_by_side(
    factory: Factory, layers: tuple[str, ...], deployed: Deployed, tmp_path: Path
) -> None:
    case = reduce(deployed("Residual"), factory=factory)
    assert (case.ops, case.cause) == (layers, RUNNER)
    assert all(array.shape[0] == 1 for array in case.inputs.values())
    folder = case.write(tmp_path / "case")
    assert script(folder) == 0, "ONNX Runtime as it is installed has no such error"
    model = onnx.load(str(folder / "case.onnx"))
    assert reproduce.main([str(folder)], factory(model).infer) == 1
    assert reproduce.main([str(folder)], one_thread(model).infer) == 0


class Spoils(OnnxRuntimeRunner):
    """Computes one op wrongly wherever it stands."""

    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__(model, threads=1)
        self._wrong = {node.output[0] for node in model.graph.node if node.op_type == "PackedConv2dAddPack"}

    def infer(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        found = super().infer(feeds)
        return {name: array + 1 if name in self._wrong else array for name, array in found.items()}


def test_an_op_that_a_runner_computes_wrongly(deployed: Deployed) -> None:
    case = reduce(deployed("Residual"), factory=Spoils)
    assert (case.layers, case.cause) == (("first",), RUNNER)
    assert "computes something else" in case.summary
    assert sum(array.size for array in case.inputs.values()) <= 2 + 34
    assert not any(array.any() for array in case.inputs.values())


class Refuses(OnnxRuntimeRunner):
    """Does not know an op."""

    def __init__(self, model: onnx.ModelProto) -> None:
        if any(node.op_type == "PackedConv2dAddPack" for node in model.graph.node):
            raise InputRefused("the model", "no such op: PackedConv2dAddPack")
        super().__init__(model, threads=1)


def test_an_op_that_a_runner_refuses(deployed: Deployed, tmp_path: Path) -> None:
    case = reduce(deployed("Residual"), factory=Refuses)
    assert (case.layers, case.cause, case.kind) == (("first",), RUNNER, "raises")
    assert "no such op" in case.summary and case.differences == {}
    assert script(case.write(tmp_path / "case")) == 0


def test_the_same_failure_gives_the_same_case(deployed: Deployed, tmp_path: Path) -> None:
    given = deployed("Residual")
    model = spoilt(given, "first", WEIGHT, flip_one_bit)
    folders = [reduce(given, model).write(tmp_path / name) for name in "ab"]
    for path in folders[0].iterdir():
        assert path.read_bytes() == (folders[1] / path.name).read_bytes(), path.name


@pytest.mark.parametrize("most_runs", [1, 3, 8])
def test_few_runs_give_a_larger_case_that_fails_all_the_same(
    most_runs: int, deployed: Deployed, tmp_path: Path
) -> None:
    given = deployed("Residual")
    case: ReducedCase = reduce(given, spoilt(given, "first", WEIGHT, flip_one_bit), most_runs=most_runs)
    # What is found is confirmed, and seen once more when it is written.
    assert case.layers == ("first",) and case.runs <= most_runs + 3
    assert script(case.write(tmp_path / "case")) == 1


def test_progress_is_told(deployed: Deployed) -> None:
    given, told = deployed("Residual"), []
    reduce(given, spoilt(given, "first", WEIGHT, flip_one_bit), progress=told.append)
    assert len(told) >= 4 and "first" in told[-1]


def test_the_file_of_another_network_is_refused(deployed: Deployed) -> None:
    given = deployed("Rectified")
    with pytest.raises(InputRefused, match="a file whose 1-bit layers are those of the network"):
        reduce(given, deployed("InPlace").proto())


class TakesNegativeZeroForMinusOne(OnnxRuntimeRunner):
    """Looks at the sign bit in place of the value; in a convolution that packs its own output too."""

    def __init__(self, model: onnx.ModelProto) -> None:
        broken = onnx.ModelProto()
        broken.CopyFrom(model)
        for function in broken.functions:
            for node in list(function.node):
                if node.op_type == "GreaterOrEqual" and function.name.startswith("Pack"):
                    one = helper.make_node("Constant", [], ["one"], value_float=1.0)
                    inverse = helper.make_node("Div", ["one", node.input[0]], ["inverse"])  # -infinity of -0.0
                    node.input[0] = "inverse"
                    place = list(function.node).index(node)
                    function.node.insert(place, inverse)
                    function.node.insert(place, one)
        super().__init__(broken, threads=1)


def test_a_probe_that_fails(deployed: Deployed, tmp_path: Path) -> None:
    model = deployed("InPlace").proto()
    assert bisect_probe(model, "onnxruntime", one_thread, "first/Binarize") is None
    case = bisect_probe(model, "onnxruntime", TakesNegativeZeroForMinusOne, "first/Binarize")
    assert case is not None and (case.ops, case.cause) == (("PackBipolar",), RUNNER)
    (array,) = case.inputs.values()
    assert array.shape[0] == 1 and (np.signbit(array) & (array == 0)).any()
    assert script(case.write(tmp_path / "case")) == 0


def test_a_probe_through_a_convolution_has_no_case_where_it_is_right(deployed: Deployed) -> None:
    assert bisect_probe(deployed("Residual").proto(), "onnxruntime", one_thread, "second/Binarize") is None


def test_a_value_that_is_given_has_no_tie_to_excuse_its_bit(deployed: Deployed) -> None:
    """x > 0 in place of x >= 0 is wrong at exact zeros alone, which in a value that is computed would be ties."""
    given = deployed("InPlace")
    model = given.proto()
    (pack,) = [node for node in model.graph.node if node.name == "first/Binarize"]
    pack.op_type = "PackUnipolar"
    model.functions.append(function_body("PackUnipolar"))
    case = reduce(given, model)
    assert (case.layers, case.cause) == (("first/Binarize",), FILE)
    assert not next(iter(case.inputs.values())).any()


def test_a_file_of_float16(deployed: Deployed, tmp_path: Path) -> None:
    """What float16 rounds is no failure; a flipped bit is one all the same."""
    given, path = deployed("Residual"), tmp_path / "half.onnx"
    export_onnx(given.module, [torch.zeros(shape) for shape in given.module.shapes], path, precision="fp16")
    half = replace(given, path=path)
    assert reduce(half) is None
    case = reduce(half, spoilt(half, "first", WEIGHT, flip_one_bit))
    assert (case.layers, case.cause) == (("first",), FILE)
    assert script(case.write(tmp_path / "case")) == 1
