"""The kernels that a builder chooses from, and what it keeps its timings by."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from conv_cases import same_bits
from plugin_cases import CONVOLUTIONS, EVEN, ODD, OPS, WEIGHTED, Case, Sizes, random_case
from plugin_host import Plugin, PluginError, PluginLibrary

from bnn_deploy import opset

TILES = 4
POPCOUNT = TILES + 1


def configured(plugin: Plugin, case: Case) -> list[int]:
    """The tactics for a profile of this size."""
    tensors = [*case.tensors, *plugin.outputs(case.tensors)]
    plugin.configure(tensors, len(case.inputs))
    return plugin.tactics()


@pytest.mark.parametrize("op", OPS)
def test_numbers(plugins: PluginLibrary, generator: np.random.Generator, op: str) -> None:
    """Positive, each once; 0 is TensorRT's own. Layers have several, what makes and pools bits has none."""
    case = random_case(op, generator, EVEN)
    with plugins.create(op, case.fields()) as plugin:
        tactics = configured(plugin, case)
    if op not in WEIGHTED:
        assert tactics == []
        return
    assert POPCOUNT in tactics and len(tactics) > 1
    assert len(set(tactics)) == len(tactics) and min(tactics) > 0 and max(tactics) <= POPCOUNT


@pytest.mark.parametrize("op", WEIGHTED)
def test_every_tactic_is_right(plugins: PluginLibrary, memory: Any, generator: np.random.Generator, op: str) -> None:
    for sizes in (ODD, EVEN):
        case = random_case(op, generator, sizes)
        with plugins.create(op, case.fields()) as plugin:
            for tactic in (0, *configured(plugin, case)):
                found = plugin.infer(memory, case.arrays, tactic=tactic)
                assert all(same_bits(*pair) for pair in zip(found, case.expected(), strict=True)), tactic


def test_groups_have_one_kernel(plugins: PluginLibrary, memory: Any, generator: np.random.Generator) -> None:
    case = random_case(opset.PACKED_CONV2D, generator, Sizes(group=2))
    with plugins.create(case.op, case.fields()) as plugin:
        assert configured(plugin, case) == [POPCOUNT]
        for tactic in range(POPCOUNT + 1):
            assert same_bits(plugin.infer(memory, case.arrays, tactic=tactic)[0], case.expected()[0])


def test_a_tactic_of_one_size_serves_all_sizes(
    plugins: PluginLibrary, memory: Any, generator: np.random.Generator
) -> None:
    """Timed at one size of a profile, run at others, those that its tile does not take included."""
    small = Sizes(1, 512, 33, (1, 1), pads=(8, 8, 8, 8), dilations=(8, 8))
    cases = [random_case(opset.PACKED_CONV2D, generator, replace(small, image=size)) for size in ((1, 1), (20, 20))]
    with plugins.create(opset.PACKED_CONV2D, cases[0].fields()) as plugin:
        assert set(configured(plugin, cases[1])) < set(configured(plugin, cases[0]))
        for tactic in range(POPCOUNT + 1):
            for case in (*cases, *cases):
                assert same_bits(plugin.infer(memory, case.arrays, tactic=tactic)[0], case.expected()[0]), tactic


@pytest.mark.parametrize("tactic", [-1, POPCOUNT + 1, 1 << 30])
def test_a_tactic_of_another_version(plugins: PluginLibrary, generator: np.random.Generator, tactic: int) -> None:
    case = random_case(opset.PACKED_CONV2D, generator)
    with (
        plugins.create(case.op, case.fields()) as plugin,
        pytest.raises(
            PluginError, match=f"PackedConv2d: tactic {tactic}, wanted 0 to {POPCOUNT}; an engine is built anew"
        ),
    ):
        plugin.set_tactic(tactic)


def test_a_refused_configuration_has_no_tactics(plugins: PluginLibrary, generator: np.random.Generator) -> None:
    case = random_case(opset.PACKED_CONV2D, generator)
    wrong = random_case(opset.PACKED_CONV2D, generator, Sizes(channels=32))
    with plugins.create(case.op, case.fields()) as plugin:
        outputs = plugin.outputs(case.tensors)
        assert configured(plugin, case) != []
        with pytest.raises(PluginError, match="packed has 1 words, wanted 3"):
            plugin.configure([*wrong.tensors, *outputs], len(wrong.inputs))
        assert plugin.tactics() == []


# ---- the timing cache


@pytest.mark.parametrize("op", OPS)
def test_timing_cache_id_tells_ops_and_attributes_apart(
    plugins: PluginLibrary, generator: np.random.Generator, op: str
) -> None:
    case = random_case(op, generator)
    other = {
        "channels": 71,
        "low": 0,
        "strides": [2, 1],
        "pads": [1, 1, 0, 1],
        "dilations": [1, 2],
        "group": 2,
        "pad_value": 1,
        "kernel_shape": [3, 2],
        "clip_low": -2.0,
        "clip_high": 3.0,
    }
    ids = []
    for changed in ({}, {}, *({name: other[name]} for name in case.attributes())):
        with plugins.create(op, case.fields(**changed)) as plugin:
            ids.append(plugin.timing_cache_id())
    assert ids[0] == ids[1] and len(set(ids[1:])) == len(ids) - 1
    assert all(each.split()[0] == op for each in ids)


# ---- scratch memory


@pytest.mark.parametrize("op", CONVOLUTIONS)
def test_workspace_holds_the_border_table(plugins: PluginLibrary, generator: np.random.Generator, op: str) -> None:
    """int32, 128 outputs at a time, for each way in which 0 or 1 taps can be cut off at the four sides."""
    case = random_case(op, generator)
    with plugins.create(op, case.fields()) as plugin:
        tensors = [*case.tensors, *plugin.outputs(case.tensors)]
        assert plugin.workspace(tensors, len(case.inputs)) == 4 * 128 * 2**4


@pytest.mark.parametrize("op", [op for op in OPS if op not in WEIGHTED])
def test_no_workspace(plugins: PluginLibrary, generator: np.random.Generator, op: str) -> None:
    case = random_case(op, generator)
    with plugins.create(op, case.fields()) as plugin:
        assert plugin.workspace([*case.tensors, *plugin.outputs(case.tensors)], len(case.inputs)) == 0


def test_a_table_beyond_all_measure_is_not_kept(
    plugins: PluginLibrary, memory: Any, generator: np.random.Generator
) -> None:
    """More than 2**28 bytes: no workspace, and no kernel that needs one."""
    sizes = Sizes(1, 32, 129, (2, 2), (25, 25), pads=(24, 24, 24, 24))
    case = random_case(opset.PACKED_CONV2D, generator, sizes)
    with plugins.create(case.op, case.fields()) as plugin:
        assert configured(plugin, case) == [POPCOUNT]
        assert plugin.workspace([*case.tensors, *plugin.outputs(case.tensors)], len(case.inputs)) == 0
        for tactic in (0, 1):
            assert same_bits(plugin.infer(memory, case.arrays, tactic=tactic)[0], case.expected()[0])
