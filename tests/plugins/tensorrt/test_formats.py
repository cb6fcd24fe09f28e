"""Every combination of types and memory formats that TensorRT could try: those that are taken, and a run of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from conv_cases import same_bits
from plugin_cases import CONVOLUTIONS, EVEN, OPS, PACKS, Case, Sizes, random_case
from plugin_host import HWC, HWC8, LINEAR, Plugin, PluginLibrary, Tensor

from bnn_deploy.runners.onnxruntime import OnnxRuntimeRunner

FORMATS = range(13)  # all that nvinfer1::TensorFormat has
DTYPES = [np.dtype(name) for name in ("f4", "f2", "i4")]
# Never to be looked at: the tensors behind the one that is asked for.
INVALID = Tensor((-7,) * 8, np.dtype(np.int32), 12345)
# 64 channels, and 36 outputs: a multiple of 4, not of 8.
UNEVEN = replace(EVEN, channels=36, outputs=36)


def combinations(plugin: Plugin, wanted: list[Tensor], inputs: int, types: tuple[int, ...]) -> Iterator[list[Tensor]]:
    """As TensorRT walks them: whatever one tensor may be, then the next one. types: where every type is tried."""

    def walk(chosen: list[Tensor]) -> Iterator[list[Tensor]]:
        position = len(chosen)
        if position == len(wanted):
            yield chosen
            return
        for dtype in DTYPES if position in types else [wanted[position].dtype]:
            for tensor_format in FORMATS:
                here = replace(wanted[position], dtype=dtype, format=tensor_format)
                behind = [INVALID] * (len(wanted) - position - 1)
                if plugin.supports(position, [*chosen, here, *behind], inputs):
                    yield from walk([*chosen, here])

    return walk([])


def supported(plugins: PluginLibrary, case: Case) -> list[list[Tensor]]:
    """Every combination that the plugin takes."""
    with plugins.create(case.op, case.fields()) as plugin:
        wanted = [*case.tensors, *plugin.outputs(case.tensors)]
        return list(combinations(plugin, wanted, len(case.inputs), tuple(range(len(wanted)))))


def expected(case: Case, outputs: int) -> set[tuple[tuple[str, int], ...]]:
    """(type, format) of every tensor, in each combination that there should be."""
    float16 = case.op.endswith("Fp16")
    channels = case.sizes.channels if case.op in PACKS else case.sizes.outputs

    def images(kind: str) -> list[tuple[str, int]]:
        last = [(kind, HWC)] if kind == "f4" else [(kind, HWC8)] if channels % 8 == 0 else []
        return [(kind, LINEAR), *last]

    if case.op in PACKS:
        others = [("f4", LINEAR)] * (len(case.inputs) - 1)
        return {(x, *others, ("i4", LINEAR)) for kind in ("f4", "f2") for x in images(kind)}
    real = "f2" if float16 else "f4"
    image = images(real) if case.op in CONVOLUTIONS and "y" in _outputs(case) else [(real, LINEAR)]
    found = set()
    for chosen in image:
        types = [chosen if name == "residual" else (array.dtype.str[1:], LINEAR) for name, array in case.inputs.items()]
        types += [chosen if name == "y" else ("i4", LINEAR) for name in _outputs(case)]
        found.add(tuple(types))
    assert all(len(types) == len(case.inputs) + outputs for types in found)
    return found


def _outputs(case: Case) -> list[str]:
    return [value.name.removeprefix("out_") for value in case.model().graph.output]


@pytest.mark.parametrize("sizes", [EVEN, UNEVEN], ids=["64 channels", "36 channels"])
@pytest.mark.parametrize("op", OPS)
def test_what_is_taken(plugins: PluginLibrary, generator: np.random.Generator, op: str, sizes: Sizes) -> None:
    case = random_case(op, generator, sizes)
    found = [tuple((each.dtype.str[1:], each.format) for each in tensors) for tensors in supported(plugins, case)]
    assert len(found) == len(set(found))
    assert set(found) == expected(case, len(_outputs(case)))


@pytest.mark.parametrize("op", OPS)
def test_what_is_taken_is_right(plugins: PluginLibrary, memory: Any, generator: np.random.Generator, op: str) -> None:
    case = random_case(op, generator, EVEN)
    for tensors in supported(plugins, case):
        inputs = {
            name: array.astype(tensor.dtype)
            for (name, array), tensor in zip(case.inputs.items(), tensors, strict=False)
        }
        body = OnnxRuntimeRunner(replace(case, inputs=inputs).model()).infer(inputs)
        count = len(inputs)
        with plugins.create(op, case.fields()) as plugin:
            plugin.configure(tensors, count)
            formats = {i: tensor.format for i, tensor in enumerate(tensors[:count])}
            stored = [_stored(array, formats[i]) for i, array in enumerate(inputs.values())]
            made = plugin.run(memory, stored, tensors[count:], formats)
        for array, tensor, wanted in zip(made, tensors[count:], body.values(), strict=True):
            assert same_bits(array, _stored(wanted, tensor.format)), tensors


def _stored(array: Any, tensor_format: int) -> Any:
    return array if tensor_format == LINEAR else np.ascontiguousarray(np.moveaxis(array, 1, -1))


@pytest.mark.parametrize("shape", [(2, 64), (2, 64, 5), (2, 64, 3, 2, 2)])
def test_channels_last_is_for_four_axes(plugins: PluginLibrary, shape: tuple[int, ...]) -> None:
    """In others, the axis that these formats move is not the one of the channels."""
    x = Tensor(shape, np.dtype(np.float32))
    with plugins.create("PackTernary", {"channels": np.array([64])}) as plugin:
        wanted = [x, *plugin.outputs([x])]
        found = list(combinations(plugin, wanted, 1, (0,)))
    assert [(each[0].dtype, each[0].format) for each in found] == [(np.float32, LINEAR), (np.float16, LINEAR)]


@pytest.mark.parametrize("channels", [-1, 63, 65, 0])
def test_gaps_behind_the_channels(plugins: PluginLibrary, channels: int) -> None:
    """kHWC8 rounds the channels up; where their number is unknown, it may."""
    x = Tensor((2, channels, 4, 4), np.dtype(np.float16), HWC8)
    bits = Tensor((2, 4, 4, 2), np.dtype(np.int32))
    with plugins.create("PackTernary", {"channels": np.array([64])}) as plugin:
        assert not plugin.supports(0, [x, bits], 1)
        assert plugin.supports(0, [replace(x, shape=(2, 64, 4, 4)), bits], 1)
