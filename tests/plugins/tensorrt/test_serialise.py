"""A plugin that was stored and restored, as an engine does it: all that it needs went with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conv_cases import same_bits
from plugin_cases import EVEN, ODD, OPS, WEIGHTED, Sizes, random_case
from plugin_host import PluginError, PluginLibrary

from bnn_deploy import opset


@pytest.mark.parametrize("sizes", [ODD, EVEN], ids=["odd", "even"])
@pytest.mark.parametrize("op", OPS)
def test_restored_runs_the_same(
    plugins: PluginLibrary, memory: Any, generator: np.random.Generator, op: str, sizes: Sizes
) -> None:
    """As TensorRT runs it: neither asked for shapes nor configured before. The one that was built is gone by then."""
    case = random_case(op, generator, sizes)
    with plugins.create(op, case.fields()) as built:
        outputs = built.outputs(case.tensors)
        expected = built.infer(memory, case.arrays)
        restored = built.restored()
    with restored:
        found = restored.run(memory, case.arrays, outputs)
    assert all(same_bits(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.parametrize("op", OPS)
def test_restored_again(plugins: PluginLibrary, generator: np.random.Generator, op: str) -> None:
    """Every attribute, none of them a default, after two stores and a copy."""
    case = random_case(op, generator, ODD)
    with (
        plugins.create(op, case.fields()) as built,
        built.restored() as once,
        once.restored() as twice,
        twice.clone() as copy,
    ):
        ids = {plugin.timing_cache_id() for plugin in (built, once, twice, copy)}
    assert len(ids) == 1
    for name, value in case.attributes().items():
        numbers = ",".join(f"{each:.6f}" if "clip" in name else f"{each:.0f}" for each in np.atleast_1d(value))
        assert f" {name}={numbers}" in ids.copy().pop()


@pytest.mark.parametrize("op", WEIGHTED)
def test_contexts_of_one_engine(plugins: PluginLibrary, memory: Any, generator: np.random.Generator, op: str) -> None:
    """Two plugins attached, one freed while the other goes on, each with a tactic of its own."""
    case = random_case(op, generator, EVEN)
    with plugins.create(op, case.fields()) as built:
        outputs = built.outputs(case.tensors)
        built.configure([*case.tensors, *outputs], len(case.inputs))
        one, other = built.restored(), built.restored()
        first, *_, last = built.tactics()
    found = [one.run(memory, case.arrays, outputs, tactic=first)]
    one.close()
    found += [other.run(memory, case.arrays, outputs, tactic=tactic) for tactic in (last, first, 0)]
    other.close()
    for arrays in found:
        assert all(same_bits(*pair) for pair in zip(arrays, case.expected(), strict=True))


def test_a_damaged_engine(plugins: PluginLibrary) -> None:
    """Created to run, of fields that are not what was stored."""
    with pytest.raises(PluginError, match="PackBipolar 'node': attribute channels is missing"):
        plugins.create(opset.PACK_BIPOLAR, {}, phase=1)
