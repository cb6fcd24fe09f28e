"""Runs: every op, in every layout, against the function body and the definition of the epilogue, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from conv_cases import same_bits
from driver import Library
from hypothesis import given, settings
from hypothesis import strategies as st
from plugin_cases import CONVOLUTIONS, EVEN, ODD, OPS, PACKS, WEIGHTED, Case, Sizes, random_case
from plugin_host import Plugin, PluginError, PluginLibrary, Tensor

from bnn_deploy import opset
from bnn_deploy.runners.onnxruntime import OnnxRuntimeRunner
from bnn_deploy.runners.reference import ReferenceRunner

LAYOUTS = pytest.mark.parametrize("channels_last", [False, True], ids=["linear", "channels last"])


def body(case: Case) -> list[Any]:
    """What stock ONNX Runtime makes of the node."""
    return list(OnnxRuntimeRunner(case.model()).infer(case.inputs).values())


def same(found: list[Any], expected: list[Any]) -> bool:
    """Whether all outputs are the same, bit for bit."""
    return len(found) == len(expected) and all(same_bits(*pair) for pair in zip(found, expected, strict=True))


@LAYOUTS
@pytest.mark.parametrize("sizes", [Sizes(), ODD, EVEN], ids=["ragged", "odd", "even"])
@pytest.mark.parametrize("op", OPS)
def test_equals_its_function_body(
    plugins: PluginLibrary, memory: Any, generator: np.random.Generator, op: str, sizes: Sizes, channels_last: bool
) -> None:
    case = random_case(op, generator, sizes)
    with plugins.create(op, case.fields()) as plugin:
        assert same(plugin.infer(memory, case.arrays, channels_last=channels_last), body(case))


@LAYOUTS
@pytest.mark.parametrize("op", WEIGHTED)
def test_edges_of_the_epilogue(
    plugins: PluginLibrary, memory: Any, generator: np.random.Generator, op: str, channels_last: bool
) -> None:
    """NaN, infinities, subnormals, both zeros, what lies halfway between two values of float16, in every operand."""
    for sizes in (ODD, EVEN):
        case = random_case(op, generator, sizes, edges=True)
        with plugins.create(op, case.fields()) as plugin:
            assert same(plugin.infer(memory, case.arrays, channels_last=channels_last), case.expected())


@LAYOUTS
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("op", PACKS)
def test_edges_of_packs(
    plugins: PluginLibrary, memory: Any, generator: np.random.Generator, op: str, dtype: Any, channels_last: bool
) -> None:
    case = random_case(op, generator, EVEN, edges=True)
    with np.errstate(over="ignore", under="ignore"):
        case.inputs["x"] = case.inputs["x"].astype(dtype)
    with plugins.create(op, case.fields()) as plugin:
        assert same(plugin.infer(memory, case.arrays, channels_last=channels_last), body(case))


@settings(max_examples=60)
@given(data=st.data(), op=st.sampled_from(OPS), seed=st.integers(0, 2**32 - 1), channels_last=st.booleans())
def test_any_size(plugins: PluginLibrary, device: Library, data: Any, op: str, seed: int, channels_last: bool) -> None:
    """Against the reference: integers are equal, what is rounded from float64 is as near as float32 can be."""
    pair = st.integers(1, 3)
    kernel = data.draw(st.tuples(pair, pair))
    image = data.draw(st.tuples(st.integers(6, 12), st.integers(6, 12)))
    pads = data.draw(st.tuples(*(st.integers(0, kernel[axis % 2] - 1) for axis in range(4))))
    channels, outputs = data.draw(st.integers(1, 130)), data.draw(st.integers(1, 70))
    sizes = Sizes(
        data.draw(st.integers(1, 3)),
        channels,
        outputs,
        image,
        kernel,
        data.draw(st.tuples(pair, pair)),
        pads,
        data.draw(st.tuples(st.integers(1, 2), st.integers(1, 2))),
        1,
        data.draw(st.integers(-1, 1)),
        data.draw(st.sampled_from((-1, 0))),
    )
    case = random_case(op, np.random.default_rng(seed), sizes)
    expected = case.expected() if op in WEIGHTED else list(ReferenceRunner(case.model()).infer(case.inputs).values())
    with device.memory() as memory, plugins.create(op, case.fields()) as plugin:
        assert same(plugin.infer(memory, case.arrays, channels_last=channels_last), expected)


@pytest.mark.parametrize("op", CONVOLUTIONS)
def test_groups(plugins: PluginLibrary, memory: Any, generator: np.random.Generator, op: str) -> None:
    case = random_case(op, generator, replace(Sizes(), group=2, pad_value=1))
    with plugins.create(op, case.fields()) as plugin:
        assert same(plugin.infer(memory, case.arrays), case.expected())


@pytest.mark.parametrize("op", OPS)
def test_shapes_change_between_runs(
    plugins: PluginLibrary, memory: Any, generator: np.random.Generator, op: str
) -> None:
    """On one plugin, with the same weights: batch and image grow and shrink, and so do the ways that padding cuts."""
    first = random_case(op, generator, Sizes(2, image=(7, 9), strides=(2, 2)))
    constant = {name: array for name, array in first.inputs.items() if name not in ("packed", "x", "residual")}
    with plugins.create(op, first.fields()) as plugin:
        for batch, image in ((2, (7, 9)), (5, (8, 8)), (1, (1, 2)), (2, (7, 9)), (1, (30, 3))):
            sizes = replace(first.sizes, batch=batch, image=image)
            case = random_case(op, generator, sizes)
            case = replace(case, inputs={**case.inputs, **constant}, weight=first.weight)
            found = plugin.infer(memory, case.arrays)
            assert same(found, case.expected() if op in WEIGHTED else body(case)), sizes


@pytest.mark.parametrize("tactic", [0, 1, 4, 5])
def test_weights_that_stay_and_weights_that_move(
    plugins: PluginLibrary, memory: Any, generator: np.random.Generator, tactic: int
) -> None:
    """What is kept from run to run is good for these weights and for what padding cuts off now, for nothing else."""
    op = opset.PACKED_CONV2D
    for image, pads in (((8, 8), (1, 1, 1, 1)), ((9, 8), (1, 2, 2, 1)), ((8, 9), (0, 2, 1, 2))):
        sizes = Sizes(2, image=image, strides=(2, 3), pads=pads, pad_value=1)
        cases = [random_case(op, generator, sizes) for _ in range(2)]
        placed = [{1: memory.put(case.inputs["weight"])} for case in cases]
        with plugins.create(op, cases[0].fields()) as plugin:
            for which, grown in (
                (0, (0, 0)),
                (0, (1, 0)),
                (0, (0, 1)),
                (1, (0, 1)),
                (0, (0, 1)),
                (0, (2, 2)),
                (0, (0, 0)),
            ):
                wider = replace(sizes, image=(image[0] + grown[0], image[1] + grown[1]))
                case = random_case(op, generator, wider)
                case = replace(case, weight=cases[which].weight)
                found = plugin.run(memory, case.arrays, plugin.outputs(case.tensors), None, tactic, placed[which])
                assert same(found, case.expected()), (which, grown)


@pytest.mark.parametrize("op", WEIGHTED)
def test_clones_side_by_side(plugins: PluginLibrary, memory: Any, generator: np.random.Generator, op: str) -> None:
    """Two contexts of one engine: their sizes differ, their weights do not."""
    cases = [random_case(op, generator, Sizes(image=image)) for image in ((7, 9), (4, 5))]
    constant = {name: array for name, array in cases[0].inputs.items() if name not in ("packed", "residual")}
    cases[1] = replace(cases[1], inputs={**cases[1].inputs, **constant}, weight=cases[0].weight)
    with plugins.create(op, cases[0].fields()) as built, built.clone() as one, one.clone() as other:
        for _ in range(3):
            for plugin, case in zip((one, other), cases, strict=True):
                assert same(plugin.infer(memory, case.arrays), case.expected())


@pytest.mark.parametrize("op", OPS)
def test_no_images(plugins: PluginLibrary, memory: Any, generator: np.random.Generator, op: str) -> None:
    case = random_case(op, generator)
    arrays = [array[:0] if name in ("packed", "x", "residual") else array for name, array in case.inputs.items()]
    with plugins.create(op, case.fields()) as plugin:
        shapes = [(0, *tensor.shape[1:]) for tensor in plugin.outputs(case.tensors)]
        assert [array.shape for array in plugin.infer(memory, arrays)] == shapes


# ---- what is no run


def refused(plugin: Plugin, memory: Any, case: Case, **changed: Any) -> str:
    """What the plugin says to other inputs than those that it was built for."""
    outputs = plugin.outputs(case.tensors)
    with pytest.raises(PluginError) as error:
        plugin.run(memory, list({**case.inputs, **changed}.values()), outputs)
    return str(error.value)


def test_refused_when_it_runs(plugins: PluginLibrary, memory: Any, generator: np.random.Generator) -> None:
    case = random_case("PackedConv2dAddPack", generator)
    with plugins.create(case.op, case.fields()) as plugin:
        assert refused(plugin, memory, case, residual=case.inputs["residual"][:1]) == (
            "PackedConv2dAddPack: residual has shape 1x40x7x9, wanted 2x40x7x9"
        )
        assert refused(plugin, memory, case, packed=case.inputs["packed"][..., :2].copy()) == (
            "PackedConv2dAddPack: packed has 2 words, wanted 3"
        )
        # And it is none the worse for it.
        assert same(plugin.infer(memory, case.arrays), case.expected())


def test_the_last_error_is_told_once(plugins: PluginLibrary, generator: np.random.Generator) -> None:
    case = random_case(opset.PACK_TERNARY, generator)
    with pytest.raises(PluginError, match="PackTernary 'one'"):
        plugins.create(case.op, {}, "one")
    with plugins.create(case.op, case.fields()) as plugin:
        assert plugin.outputs(case.tensors) == [Tensor((2, 7, 9, 6), np.dtype(np.int32))]
