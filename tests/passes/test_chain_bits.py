"""An epilogue that only bits come out of becomes two integers a channel."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import bnn_deploy.passes.chain_bits as chain_bits
from bnn_deploy.passes.absorb_threshold import AbsorbThresholdPass
from bnn_deploy.passes.chain_bits import ChainBitsPass, bit_interval
from bnn_deploy.passes.fuse_epilogue import FuseEpiloguePass
from bnn_deploy.passes.fuse_pack import FusePackPass

LOWEST, HIGHEST = -(2**31), 2**31 - 1
OUTPUTS = 35
FLOATS = st.one_of(st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 1e-30]), st.floats(-20, 20, width=32))


class TestBitInterval:
    @settings(max_examples=200)
    @given(st.lists(st.lists(st.booleans(), min_size=7, max_size=7), min_size=1, max_size=4))
    def test_by_trying(self, rows: list[list[bool]]) -> None:
        ones = np.array(rows)
        bounds = bit_interval(ones, -3)
        consecutive = all("10" not in "".join("1" if one else "0" for one in row).strip("0") for row in rows)
        assert (bounds is not None) == consecutive
        if bounds is not None:
            lower, upper = bounds
            assert lower.dtype == upper.dtype == np.int32
            accumulator = np.arange(-3, 4)
            found = (lower[:, None] <= accumulator) & (accumulator <= upper[:, None])
            np.testing.assert_array_equal(found, ones)

    def test_to_the_ends(self) -> None:
        rows = [[1, 1, 1], [0, 0, 0], [1, 0, 0], [0, 0, 1], [0, 1, 0]]
        bounds = bit_interval(np.array(rows, bool), -1)
        assert bounds is not None
        assert bounds[0].tolist() == [LOWEST, 1, LOWEST, 1, 0]
        assert bounds[1].tolist() == [HIGHEST, 0, -1, HIGHEST, 0]


def chain(
    toolbox: Any, rewriting: Any, activation: str = "", levels: str = "bipolar", **conv: Any
) -> tuple[ir.Model, dict[str, NDArray[np.float32]]]:
    """A convolution, an activation, a binarisation, fused; the bits are an output. Its operands can be overwritten."""
    draft = toolbox.Draft(x=["batch", 4, 3, 3])
    attributes = {"shape": ["batch", OUTPUTS, 3, 3], "pads": [1, 1, 1, 1], **conv}
    channels = 4 // attributes.get("group", 1)
    y = draft.conv(draft.binarize(draft["x"], "a", levels), toolbox.weights(OUTPUTS, channels, 3, 3), "a", **attributes)
    if activation == "PRelu":
        y = draft.op("PRelu", y, draft.constant("slope", np.ones((OUTPUTS, 1, 1), np.float32)), shape=y.shape)
    elif activation == "Clip":
        bounds = [draft.constant(name, np.float32(value)) for name, value in (("low", -2), ("high", 3))]
        y = draft.op("Clip", y, *bounds, shape=y.shape)
    end = draft.conv(
        draft.binarize(y, "b"), toolbox.weights(3, OUTPUTS, 1, 1), "b", shape=["batch", 3, 3, 3], weight_scale="none"
    )
    model = rewriting.packed(draft.model(end))
    model.graph.outputs.append(toolbox.node(model, "b/Binarize").outputs[0])
    FuseEpiloguePass()(model)
    FusePackPass()(model)
    names = ("scale", "bias", *(("slope", "shift") if activation == "PRelu" else ()), "lower", "upper")
    node = toolbox.node(model, "a")
    values = dict(zip(names, node.inputs[2:], strict=True))
    arrays = {name: toolbox.array(value).copy() for name, value in values.items()}
    for name, value in values.items():
        value.const_value = ir.tensor(arrays[name], name=value.name)  # shares the memory: writes to arrays arrive
        value.meta.clear()
    return model, arrays


def same_bits(toolbox: Any, rewriting: Any, model: ir.Model, seed: int = 0) -> ir.Node:
    x = toolbox.adversarial((7, 4, 3, 3), seed, finite=True)
    expected = rewriting.outputs(model, x=x)
    result = rewriting.apply(model, ChainBitsPass())
    assert (result.changes, result.declined) == (1, ())
    for found, wanted in zip(rewriting.outputs(model, x=x), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    return toolbox.node(model, "a")


def brute_force(arrays: dict[str, Any], activation: str, accumulator: int, channel: int) -> bool:
    """One accumulator of one channel, in Python, every operation rounded to float32."""
    operand = {name: array[channel] for name, array in arrays.items()}
    z = np.float32(operand["scale"] * np.float32(accumulator))
    z = np.float32(z + operand["bias"])
    if activation == "PRelu":
        z = z if z >= 0 else np.float32(operand["slope"] * z)
        z = np.float32(z + operand["shift"])
    if activation == "Clip":
        z = max(min(z, np.float32(3)), np.float32(-2))
    return bool(operand["lower"] <= z <= operand["upper"])


@settings(max_examples=20)
@given(st.data())
@pytest.mark.parametrize("activation", ["", "PRelu", "Clip"])
def test_every_accumulator(toolbox: Any, rewriting: Any, activation: str, data: st.DataObject) -> None:
    """Scales of both signs and 0, channels that are always or never 1, slopes that bend back."""
    model, arrays = chain(toolbox, rewriting, activation)
    generator = np.random.default_rng(data.draw(st.integers(0, 999), "seed"))
    for name, array in arrays.items():
        drawn = generator.normal(0, 3, OUTPUTS)
        drawn[generator.random(OUTPUTS) < 0.2] = data.draw(FLOATS, name)
        array[:] = drawn
    arrays["upper"][::2] = np.inf
    arrays["lower"][1::4] = -np.inf
    if activation == "PRelu" and data.draw(st.booleans(), "bends one way only"):
        arrays["slope"][:] = np.abs(arrays["slope"])
    taps = 4 * 9
    table = np.array(
        [
            [brute_force(arrays, activation, sum_, channel) for sum_ in range(-taps, taps + 1)]
            for channel in range(OUTPUTS)
        ]
    )
    consecutive = all("10" not in "".join("1" if one else "0" for one in row).strip("0") for row in table)
    if not consecutive:
        result = rewriting.apply(model, ChainBitsPass())
        (declined,) = result.declined
        assert (result.changes, declined.layer) == (0, "a")
        assert "PReLU with a negative slope" in declined.reason
        return
    node = same_bits(toolbox, rewriting, model, data.draw(st.integers(0, 99), "images"))
    assert node.op_type == "PackedConv2dBits"
    lower, upper = (toolbox.array(value)[:, None] for value in node.inputs[2:])
    sums = np.arange(-taps, taps + 1)
    np.testing.assert_array_equal((lower <= sums) & (sums <= upper), table)


@pytest.mark.parametrize(
    ("scale", "bias", "lower", "upper", "expected"),
    [
        (1, 0, 0, np.inf, (0, HIGHEST)),
        (-1, 0, 0, np.inf, (LOWEST, 0)),
        (0, 0, 0, np.inf, (LOWEST, HIGHEST)),
        (0, -1, 0, np.inf, (1, 0)),
        (0.5, -1.5, 0, np.inf, (3, HIGHEST)),
        (0.5, -1.6, 0, np.inf, (4, HIGHEST)),
        (-0.5, 1.5, 0, np.inf, (LOWEST, 3)),
        (1, 0, -np.inf, -5, (LOWEST, -5)),
        (1, 0, -2, 2, (-2, 2)),
        (1, 100, 0, np.inf, (LOWEST, HIGHEST)),
        (1, -100, 0, np.inf, (1, 0)),
        (1, 0, 2, -2, (1, 0)),
        (1e-45, 0, 1e-45, np.inf, (1, HIGHEST)),
        (3e38, 0, 3e38, np.inf, (1, HIGHEST)),
        (3e38, 0, -np.inf, 3.2e38, (LOWEST, 1)),
    ],
)
def test_sign_cases(
    toolbox: Any, rewriting: Any, scale: float, bias: float, lower: float, upper: float, expected: tuple[int, int]
) -> None:
    model, arrays = chain(toolbox, rewriting)
    for name, value in {"scale": scale, "bias": bias, "lower": lower, "upper": upper}.items():
        arrays[name][:] = value
    node = same_bits(toolbox, rewriting, model)
    assert [(set(toolbox.array(value).tolist())) for value in node.inputs[2:]] == [{expected[0]}, {expected[1]}]


@pytest.mark.parametrize(
    ("levels", "more"),
    [
        ("unipolar", {}),
        ("bipolar", {"pad_value": -1.0}),
        ("bipolar", {"strides": [2, 1], "shape": ["batch", OUTPUTS, 2, 3]}),
        ("bipolar", {"dilations": [2, 2], "pads": [2, 2, 2, 2]}),
    ],
)
def test_geometry_and_levels(toolbox: Any, rewriting: Any, levels: str, more: dict[str, Any]) -> None:
    draft = toolbox.Draft(x=["batch", 4, 3, 3])
    attributes = {"shape": ["batch", OUTPUTS, 3, 3], "pads": [1, 1, 1, 1], **more}
    y = draft.conv(draft.binarize(draft["x"], "a", levels), toolbox.weights(OUTPUTS, 4, 3, 3), "a", **attributes)
    shape = ["batch", 3, *attributes["shape"][2:]]
    end = draft.conv(draft.binarize(y, "b"), toolbox.weights(3, OUTPUTS, 1, 1), "b", shape=shape)
    model = rewriting.packed(draft.model(end))
    FusePackPass()(model)
    before = {name: value.value for name, value in toolbox.node(model, "a").attributes.items()}
    node = same_bits(toolbox, rewriting, model)
    assert {name: value.value for name, value in node.attributes.items()} == before
    assert node.metadata_props["bnn_deploy.pack"] == "b/Binarize"


def test_groups(toolbox: Any, rewriting: Any) -> None:
    draft = toolbox.Draft(x=["batch", 10, 3, 3])
    y = draft.conv(
        draft.binarize(draft["x"], "a"), toolbox.weights(10, 2, 3, 3), "a", group=5, shape=["batch", 10, 1, 1]
    )
    end = draft.conv(draft.binarize(y, "b"), toolbox.weights(3, 10, 1, 1), "b", shape=["batch", 3, 1, 1])
    model = rewriting.packed(draft.model(end))
    FusePackPass()(model)
    x = toolbox.adversarial((7, 10, 3, 3))
    expected = rewriting.outputs(model, x=x)
    assert rewriting.apply(model, ChainBitsPass()).changes == 1
    np.testing.assert_array_equal(rewriting.outputs(model, x=x), expected)


def test_a_few_channels_at_a_time_give_the_same(toolbox: Any, rewriting: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bounds = []
    for limit in (2**22, 100):
        monkeypatch.setattr(chain_bits, "_EVALUATED_AT_ONCE", limit)
        model, _ = chain(toolbox, rewriting)
        ChainBitsPass()(model)
        bounds.append([toolbox.array(value).tolist() for value in toolbox.node(model, "a").inputs[2:]])
    assert bounds[0] == bounds[1]


class TestConvolutionStays:
    def test_its_float_output_is_read(self, toolbox: Any, rewriting: Any) -> None:
        model, _ = chain(toolbox, rewriting)
        model.graph.outputs.append(toolbox.node(model, "a").outputs[0])
        result = rewriting.apply(model, ChainBitsPass())
        assert (result.changes, result.declined) == (0, ())

    def test_it_has_a_shortcut(self, toolbox: Any, rewriting: Any) -> None:
        shape = ["batch", 4, 3, 3]
        draft = toolbox.Draft(x=shape)
        y = draft.conv(draft.binarize(draft["x"], "a"), toolbox.weights(4, 4, 1, 1), "a", shape=shape)
        y = draft.op("Add", y, draft["x"], shape=shape)
        y = draft.conv(draft.binarize(y, "b"), toolbox.weights(4, 4, 1, 1), "b", shape=shape)
        model = rewriting.packed(draft.model(y))
        FuseEpiloguePass()(model)
        FusePackPass()(model)
        result = rewriting.apply(model, ChainBitsPass())
        assert (result.changes, result.declined) == (0, ())


class TestLinear:
    def network(self, toolbox: Any, rewriting: Any, *, norm: bool = True, extra: bool = False) -> ir.Model:
        draft = toolbox.Draft(x=["batch", 40])
        y = draft.linear(draft.binarize(draft["x"], "a"), toolbox.weights(OUTPUTS, 40), "a", shape=["batch", OUTPUTS])
        z = draft.batch_norm(y, toolbox.norm(OUTPUTS), shape=y.shape) if norm else y
        end = draft.linear(draft.binarize(z, "b"), toolbox.weights(3, OUTPUTS), "b", shape=["batch", 3])
        model = rewriting.packed(draft.model(end, *([y] if extra else [])))
        AbsorbThresholdPass()(model)
        return model

    @pytest.mark.parametrize("norm", [False, True])
    def test_bits_to_bits(self, toolbox: Any, rewriting: Any, norm: bool) -> None:
        model = self.network(toolbox, rewriting, norm=norm)
        x = toolbox.adversarial((7, 40))
        expected = rewriting.outputs(model, x=x)
        result = rewriting.apply(model, ChainBitsPass())
        assert (result.changes, result.declined) == (1, ())
        assert toolbox.op_types(model) == ["PackBipolar", "PackedLinearBits", "PackedLinear"]
        assert toolbox.node(model, "a").metadata_props["bnn_deploy.pack"] == "b/Binarize"
        np.testing.assert_array_equal(rewriting.outputs(model, x=x), expected)

    def test_its_float_output_is_read(self, toolbox: Any, rewriting: Any) -> None:
        assert rewriting.apply(self.network(toolbox, rewriting, extra=True), ChainBitsPass()).changes == 0
