"""Shapes and types of outputs, against ONNX's inference of the function body; and inputs that do not fit, refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from plugin_cases import CONVOLUTIONS, EVEN, ODD, OPS, PACKS, WEIGHTED, Case, Sizes, packed_words, random_case
from plugin_host import PluginError, PluginLibrary, Tensor

from bnn_deploy import opset
from bnn_deploy.runners.onnxruntime import OnnxRuntimeRunner


def inferred(case: Case) -> list[Tensor]:
    """What ONNX makes of the function body; a size that it cannot tell is what the body makes when it runs."""
    model = case.model()
    ran = OnnxRuntimeRunner(model).infer(case.inputs)
    found = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph.output
    tensors = []
    for value in found:
        array = ran[value.name]
        sizes = [axis.dim_value for axis in value.type.tensor_type.shape.dim] or [0] * array.ndim
        shape = tuple(size or made for size, made in zip(sizes, array.shape, strict=True))
        tensors.append(Tensor(shape, helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)))
    return tensors


@pytest.mark.parametrize("symbolic", ["nothing", "the batch", "all of what is fed"])
@pytest.mark.parametrize("op", OPS)
def test_shapes_and_types_are_those_of_the_function_body(
    plugins: PluginLibrary, generator: np.random.Generator, op: str, symbolic: str
) -> None:
    for sizes in (Sizes(), ODD, EVEN):
        case = random_case(op, generator, sizes)
        inputs = [_with_symbols(name, tensor, symbolic) for name, tensor in zip(case.inputs, case.tensors, strict=True)]
        with plugins.create(op, case.fields()) as plugin:
            assert plugin.outputs(inputs) == inferred(case)


def _with_symbols(name: str, tensor: Tensor, symbolic: str) -> Tensor:
    """Fed are packed, x and the residual: all but the operands. Their words and channels are always known."""
    if symbolic == "nothing" or name not in ("packed", "x", "residual"):
        return tensor
    rank = len(tensor.shape)
    kept = rank - 1 if name == "packed" else 1
    first = (False,) + (True,) * (rank - 1)
    return replace(tensor, known=first if symbolic == "the batch" else tuple(axis == kept for axis in range(rank)))


@pytest.mark.parametrize("rank", [2, 3, 5])
def test_packs_take_any_number_of_axes(plugins: PluginLibrary, rank: int) -> None:
    x = Tensor((2, 40, *range(3, rank + 1)), np.dtype(np.float32))
    with plugins.create(opset.PACK_TERNARY, {"channels": np.array([40])}) as plugin:
        assert plugin.outputs([x]) == [Tensor((2, *range(3, rank + 1), 4), np.dtype(np.int32))]


# ---- what does not fit: at build, and again when it runs


def refusals(plugins: PluginLibrary, case: Case, known: bool = True, **changed: Tensor) -> list[str]:
    """What the plugin says to these inputs when shapes are asked for, and when shapes are told."""
    tensors = [changed.get(name, tensor) for name, tensor in zip(case.inputs, case.tensors, strict=True)]
    messages = []
    with plugins.create(case.op, case.fields()) as plugin:
        outputs = plugin.outputs(case.tensors)
        for ask in (
            lambda: plugin.outputs(tensors),
            lambda: plugin.configure([*tensors, *outputs], len(tensors)),
            lambda: plugin.shapes_changed([*tensors, *outputs], len(tensors)),
        ):
            with pytest.raises(PluginError) as refused:
                ask()
            messages.append(str(refused.value))
    return messages


def resized(array: Any, axis: int, size: int) -> Tensor:
    """The tensor with another size."""
    shape = list(array.shape)
    shape[axis] = size
    return Tensor(tuple(shape), array.dtype)


@pytest.mark.parametrize("op", [op for op in OPS if op not in PACKS])
def test_words(plugins: PluginLibrary, generator: np.random.Generator, op: str) -> None:
    case, wanted = random_case(op, generator), packed_words(70, op)
    said = refusals(plugins, case, packed=resized(case.inputs["packed"], -1, wanted + 1))
    assert said == [f"{op}: packed has {wanted + 1} words, wanted {wanted}"] * 3
    operand = "weight" if op in WEIGHTED else "flip"
    said = refusals(plugins, case, **{operand: resized(case.inputs[operand], -1, 2)})
    assert said == [f"{op}: {operand} has 2 words, wanted 3"] * 3


@pytest.mark.parametrize("op", OPS)
def test_ranks(plugins: PluginLibrary, generator: np.random.Generator, op: str) -> None:
    case = random_case(op, generator)
    first = next(iter(case.inputs))
    flat = Tensor((70,), case.inputs[first].dtype)
    wanted = "wanted N, C, and those of space" if op in PACKS else f"wanted {2 if case.linear else 4}"
    assert refusals(plugins, case, **{first: flat}) == [f"{op}: {first} has 1 axes, {wanted}"] * 3


@pytest.mark.parametrize("op", PACKS)
def test_channels(plugins: PluginLibrary, generator: np.random.Generator, op: str) -> None:
    case = random_case(op, generator)
    said = refusals(plugins, case, x=resized(case.inputs["x"], 1, 69))
    assert said == [f"{op}: x has 69 channels, wanted 70"] * 3


@pytest.mark.parametrize("size", [0, 2, 71])
@pytest.mark.parametrize("op", [op for op in PACKS if op != opset.PACK_TERNARY])
def test_thresholds(plugins: PluginLibrary, generator: np.random.Generator, op: str, size: int) -> None:
    case = random_case(op, generator)
    name = list(case.inputs)[-1]
    said = refusals(plugins, case, **{name: Tensor((size,), np.dtype(np.float32))})
    assert said == [f"{op}: a threshold has shape {size}, wanted 1 or 70"] * 3


@pytest.mark.parametrize("op", WEIGHTED)
def test_operands(plugins: PluginLibrary, generator: np.random.Generator, op: str) -> None:
    case = random_case(op, generator)
    for i, (name, array) in enumerate(case.inputs.items()):
        if name in ("packed", "weight", "residual"):
            continue
        for shape, text in (((39,), "39"), ((40, 1), "40x1")):
            said = refusals(plugins, case, **{name: Tensor(shape, array.dtype)})
            assert said == [f"{op}: input {i} has shape {text}, wanted 40, one value for each output"] * 3


@pytest.mark.parametrize("op", [op for op in CONVOLUTIONS if "Add" in op])
@pytest.mark.parametrize(("axis", "shape"), [(0, "1x40x7x9"), (1, "2x1x7x9"), (2, "2x40x1x9"), (3, "2x40x7x1")])
def test_residual(plugins: PluginLibrary, generator: np.random.Generator, op: str, axis: int, shape: str) -> None:
    """Of any other size than y it would be read beyond its end."""
    case = random_case(op, generator)
    said = refusals(plugins, case, residual=resized(case.inputs["residual"], axis, 1))
    assert said == [f"{op}: residual has shape {shape}, wanted 2x40x7x9"] * 3


@pytest.mark.parametrize("op", [*CONVOLUTIONS, opset.PACKED_MAX_POOL2D])
def test_windows_larger_than_the_image(plugins: PluginLibrary, generator: np.random.Generator, op: str) -> None:
    case = random_case(op, generator, Sizes(pads=(0, 0, 0, 0)))
    said = refusals(plugins, case, packed=resized(case.inputs["packed"], 2, 2))
    assert said == [f"{op}: the kernel spans 3 pixels of width, but the padded input has 2"] * 3


def test_groups_of_outputs(plugins: PluginLibrary, generator: np.random.Generator) -> None:
    case = random_case(opset.PACKED_CONV2D, generator, Sizes(group=2))
    odd = {name: resized(case.inputs[name], 0, 39) for name in ("weight", "scale", "bias")}
    assert refusals(plugins, case, **odd) == ["PackedConv2d: 39 outputs do not divide into 2 groups"] * 3


@pytest.mark.parametrize("op", OPS)
def test_types(plugins: PluginLibrary, generator: np.random.Generator, op: str) -> None:
    case = random_case(op, generator)
    names = {"f": "float{}", "i": "int{}"}
    with plugins.create(op, case.fields()) as plugin:
        for i, tensor in enumerate(case.tensors):
            wanted = names[tensor.dtype.kind].format(8 * tensor.dtype.itemsize)
            real = op in PACKS and i == 0
            other = np.dtype(np.int32 if real else np.float16 if wanted != "float16" else np.float32)
            found = names[other.kind].format(8 * other.itemsize)
            tensors = [replace(each, dtype=other) if k == i else each for k, each in enumerate(case.tensors)]
            with pytest.raises(PluginError) as refused:
                plugin.outputs(tensors)
            ending = " or float16" if real else ""
            assert str(refused.value) == f"{op}: input {i} is {found}, wanted {wanted}{ending}"
