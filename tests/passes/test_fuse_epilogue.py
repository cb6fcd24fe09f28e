"""Shortcuts, shifts and activations behind a packed convolution become its epilogue."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bnn_deploy.passes.fuse_epilogue import FuseEpiloguePass

CHANNELS = 6
IMAGE = ["batch", CHANNELS, 5, 5]
SHIFT = np.linspace(-2, 2, CHANNELS, dtype=np.float32).reshape(CHANNELS, 1, 1)
SLOPE = np.float32([0.25, -0.5, 0, 1, 2, 0.1]).reshape(CHANNELS, 1, 1)
# One float32 sum instead of two, relative to the largest output.
SUMMED_TOLERANCE = 4 * 2.0**-24


@pytest.fixture
def draft(toolbox: Any) -> Any:
    return toolbox.Draft(x=IMAGE, r=IMAGE)


def conv(toolbox: Any, draft: Any, x: ir.Value, name: str = "conv", seed: int = 1) -> ir.Value:
    weight, bias = (
        toolbox.weights(CHANNELS, x.shape[1], 3, 3, seed=seed),
        np.linspace(-1, 1, CHANNELS, dtype=np.float32),
    )
    return draft.conv(draft.binarize(x, name), weight, name, bias=bias, pads=[1, 1, 1, 1], shape=IMAGE)


def behind(draft: Any, y: ir.Value, kind: str) -> ir.Value:
    name = f"{kind}{len(draft.nodes)}"
    described = {"shape": y.shape, "node": name}
    if kind == "residual":
        return draft.op("Add", y, draft["r"], **described)
    if kind == "residual first":
        return draft.op("Add", draft["r"], y, **described)
    if kind == "shift":
        return draft.op("Add", y, draft.constant(f"{name}.c", SHIFT), **described)
    if kind == "shift first":
        return draft.op("Add", draft.constant(f"{name}.c", SHIFT), y, **described)
    if kind == "shift down":
        return draft.op("Sub", y, draft.constant(f"{name}.c", SHIFT), **described)
    if kind == "prelu":
        return draft.op("PRelu", y, draft.constant(f"{name}.slope", SLOPE), **described)
    if kind == "leaky_relu":
        return draft.op("LeakyRelu", y, alpha=0.125, **described)
    if kind == "relu":
        return draft.op("Relu", y, **described)
    bounds = [draft.constant(f"{name}.{end}", np.float32(value)) for end, value in (("low", -1), ("high", 1.5))]
    return draft.op("Clip", y, *bounds, **described)


def feeds(toolbox: Any, batch: int = 7, *, finite: bool = True) -> dict[str, NDArray[np.float32]]:
    shape = (batch, *IMAGE[1:])
    return {name: toolbox.adversarial(shape, seed, finite=finite) for seed, name in enumerate("xr")}


def used(model: ir.Model, arrays: dict[str, Any]) -> dict[str, Any]:
    """ONNX Runtime refuses inputs that the graph does not have."""
    names = {value.name for value in model.graph.inputs if value.uses()}
    for value in [value for value in model.graph.inputs if value.name not in names]:
        model.graph.inputs.remove(value)
    return {name: array for name, array in arrays.items() if name in names}


EXACT = {
    "PackedConv2dAdd": (["residual"], ["residual first"]),
    "PackedConv2dPRelu": (["prelu"], ["leaky_relu"], ["prelu", "shift"]),
    "PackedConv2dClip": (["relu"], ["hardtanh"]),
    "PackedConv2dAddPRelu": (["residual", "prelu"], ["residual first", "leaky_relu", "shift first"]),
    "PackedConv2dAddClip": (["residual", "relu"], ["residual", "hardtanh"]),
}
SUMMED = {
    "PackedConv2d": (["shift"], ["shift first", "shift down"]),
    "PackedConv2dAdd": (["residual", "shift"],),
    "PackedConv2dAddPRelu": (["residual", "shift", "prelu", "shift"],),
    "PackedConv2dPRelu": (["shift down", "prelu", "shift", "shift"],),
    "PackedConv2dClip": (["shift", "relu"],),
}


@pytest.mark.parametrize("batch", [1, 7])
@pytest.mark.parametrize(("op_type", "kinds"), [(op_type, kinds) for op_type, some in EXACT.items() for kinds in some])
def test_the_same_float32_arithmetic(
    toolbox: Any, rewriting: Any, draft: Any, op_type: str, kinds: list[str], batch: int
) -> None:
    y = conv(toolbox, draft, draft["x"])
    for kind in kinds:
        y = behind(draft, y, kind)
    model = rewriting.packed(draft.model(y))
    # ONNX defines NaN for PRelu and Add; what a clamp makes of it is up to the runtime.
    arrays = used(model, feeds(toolbox, batch, finite="Clip" in op_type))
    (expected,) = rewriting.outputs(model, **arrays)
    result = rewriting.apply(model, FuseEpiloguePass())
    assert (result.changes, result.declined) == (len(kinds), ())
    fused = toolbox.node(model, "conv")
    assert (fused.op_type, toolbox.op_types(model)) == (op_type, ["PackBipolar", op_type])
    assert fused.outputs[0].name == y.name
    (found,) = rewriting.outputs(model, **arrays)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("op_type", "kinds"), [(op_type, kinds) for op_type, some in SUMMED.items() for kinds in some])
def test_constants_are_added_up_beforehand(
    toolbox: Any, rewriting: Any, draft: Any, op_type: str, kinds: list[str]
) -> None:
    y = conv(toolbox, draft, draft["x"])
    for kind in kinds:
        y = behind(draft, y, kind)
    model = rewriting.packed(draft.model(y))
    arrays = used(model, feeds(toolbox))
    (expected,) = rewriting.outputs(model, **arrays)
    result = rewriting.apply(model, FuseEpiloguePass())
    assert (result.changes, result.declined) == (len(kinds), ())
    assert toolbox.op_types(model) == ["PackBipolar", op_type]
    assert toolbox.close(rewriting.outputs(model, **arrays)[0], expected, tolerance=SUMMED_TOLERANCE)
    assert [name for name in model.graph.initializers if ".2" in name] == []


def test_the_bias_is_rounded_once(toolbox: Any, rewriting: Any, draft: Any) -> None:
    """0.1 + 0.2 + 0.3 in float32, one after another, is something else."""
    tenths = [np.full((CHANNELS, 1, 1), value, np.float32) for value in (1.1, 2.2, 3.3)]
    y = draft.conv(draft.binarize(draft["x"]), toolbox.weights(CHANNELS, CHANNELS, 1, 1), shape=IMAGE)
    for index, tenth in enumerate(tenths):
        y = draft.op("Add", y, draft.constant(f"c{index}", tenth), shape=IMAGE)
    model = rewriting.packed(draft.model(y))
    rewriting.apply(model, FuseEpiloguePass())
    exact = np.float32(sum(float(tenth.flat[0]) for tenth in tenths))
    assert exact != tenths[0].flat[0] + tenths[1].flat[0] + tenths[2].flat[0]
    assert toolbox.array(toolbox.node(model, "conv").inputs[3]).tolist() == [exact] * CHANNELS


@settings(max_examples=25)
@given(
    st.lists(
        st.sampled_from(["residual", "shift", "shift down", "prelu", "leaky_relu", "relu", "hardtanh"]),
        min_size=1,
        max_size=6,
    )
)
def test_any_order(toolbox: Any, rewriting: Any, kinds: list[str]) -> None:
    """What does not fit the fixed order of the pieces stays, and means the same."""
    draft = toolbox.Draft(x=IMAGE, r=IMAGE)
    y = conv(toolbox, draft, draft["x"])
    for kind in kinds:
        y = behind(draft, y, kind)
    model = rewriting.packed(draft.model(y))
    arrays = used(model, feeds(toolbox))
    (expected,) = rewriting.outputs(model, **arrays)
    result = rewriting.apply(model, FuseEpiloguePass())
    assert len(model.graph) == 2 + len(kinds) - result.changes
    assert toolbox.close(rewriting.outputs(model, **arrays)[0], expected, tolerance=len(kinds) * SUMMED_TOLERANCE)


def test_relu_passes_infinity_on(toolbox: Any, rewriting: Any, draft: Any) -> None:
    y = behind(draft, behind(draft, conv(toolbox, draft, draft["x"]), "residual"), "relu")
    model = rewriting.packed(draft.model(y))
    rewriting.apply(model, FuseEpiloguePass())
    arrays = feeds(toolbox, 1)
    arrays["r"][:] = np.inf
    assert np.isposinf(rewriting.outputs(model, **arrays)[0]).all()


def test_the_shortcut_is_what_the_layer_reads(toolbox: Any, rewriting: Any, draft: Any) -> None:
    """A Bi-Real block, twice; the first y is read by the second block's binarisation and shortcut."""
    first = draft.op("Add", conv(toolbox, draft, draft["x"], "a"), draft["x"], shape=IMAGE)
    second = draft.op("Add", conv(toolbox, draft, first, "b"), first, shape=IMAGE)
    model = rewriting.packed(draft.model(second))
    arrays = used(model, feeds(toolbox))
    expected = rewriting.outputs(model, **arrays)
    assert rewriting.apply(model, FuseEpiloguePass()).changes == 2
    assert toolbox.op_types(model) == ["PackBipolar", "PackedConv2dAdd"] * 2
    np.testing.assert_array_equal(rewriting.outputs(model, **arrays), expected)


@pytest.mark.parametrize("swapped", [False, True])
def test_two_convolutions_are_added(toolbox: Any, rewriting: Any, draft: Any, swapped: bool) -> None:
    """One takes the other's output for its shortcut, whichever the graph has first."""
    ends = [conv(toolbox, draft, draft[name], name, seed) for seed, name in enumerate("xr", 1)]
    model = rewriting.packed(draft.model(draft.op("Add", *(ends[::-1] if swapped else ends), shape=IMAGE)))
    arrays = feeds(toolbox)
    expected = rewriting.outputs(model, **arrays)
    assert rewriting.apply(model, FuseEpiloguePass()).changes == 1
    assert sorted(toolbox.op_types(model)) == ["PackBipolar", "PackBipolar", "PackedConv2d", "PackedConv2dAdd"]
    assert toolbox.node(model, "x").op_type == "PackedConv2dAdd"
    np.testing.assert_array_equal(rewriting.outputs(model, **arrays), expected)


def test_a_shortcut_that_is_made_later(toolbox: Any, rewriting: Any, draft: Any) -> None:
    """The convolution moves down to where its shortcut exists."""
    y = conv(toolbox, draft, draft["x"])
    late = draft.op("Neg", draft.op("Abs", draft["r"], shape=IMAGE), shape=IMAGE)
    model = rewriting.packed(draft.model(draft.op("Add", y, late, shape=IMAGE)))
    arrays = feeds(toolbox)
    expected = rewriting.outputs(model, **arrays)
    assert rewriting.apply(model, FuseEpiloguePass()).changes == 1
    np.testing.assert_array_equal(rewriting.outputs(model, **arrays), expected)


def test_shared_constants_stay(toolbox: Any, rewriting: Any, draft: Any) -> None:
    """Exporters keep one copy of equal tensors: two layers share a bias, a shift and a slope."""
    shared = draft.constant("shared", SHIFT)
    bias = draft.constant("bias", np.zeros(CHANNELS, np.float32))
    y = draft["x"]
    for name in ("a", "b"):
        y = draft.conv(draft.binarize(y, name), toolbox.weights(CHANNELS, CHANNELS, 1, 1), name, bias, shape=IMAGE)
        y = draft.op("PRelu", draft.op("Add", y, shared, shape=IMAGE), shared, shape=IMAGE)
    model = rewriting.packed(draft.model(draft.op("Add", draft.op("Relu", y, shape=IMAGE), shared, shape=IMAGE)))
    arrays = used(model, feeds(toolbox))
    (expected,) = rewriting.outputs(model, **arrays)
    assert rewriting.apply(model, FuseEpiloguePass()).changes == 4
    assert toolbox.array(model.graph.initializers["shared"]).tolist() == SHIFT.tolist()
    assert toolbox.close(rewriting.outputs(model, **arrays)[0], expected, tolerance=SUMMED_TOLERANCE)


class TestStays:
    def untouched(self, rewriting: Any, model: ir.Model) -> tuple[str, ...]:
        """The reasons."""
        rewriting.packed(model)
        result = rewriting.apply(model, FuseEpiloguePass())
        assert result.changes == 0
        assert all(declined.layer == "conv" for declined in result.declined)
        return tuple(declined.reason for declined in result.declined)

    def test_y_is_read_twice(self, toolbox: Any, rewriting: Any, draft: Any) -> None:
        y = conv(toolbox, draft, draft["x"])
        ends = [draft.op(op, y, shape=IMAGE) for op in ("Relu", "Neg")]
        assert self.untouched(rewriting, draft.model(*ends)) == ()

    def test_y_is_added_to_itself(self, toolbox: Any, rewriting: Any, draft: Any) -> None:
        y = conv(toolbox, draft, draft["x"])
        assert self.untouched(rewriting, draft.model(draft.op("Add", y, y, shape=IMAGE))) == ()

    def test_y_is_an_output(self, toolbox: Any, rewriting: Any, draft: Any) -> None:
        y = conv(toolbox, draft, draft["x"])
        assert self.untouched(rewriting, draft.model(y, draft.op("Relu", y, shape=IMAGE))) == ()

    @pytest.mark.parametrize(
        "shape", [["batch", CHANNELS, 1, 1], ["batch", 1, 5, 5], [1, CHANNELS, 5, 5], ["other", CHANNELS, 5, 5], None]
    )
    def test_a_shortcut_that_is_broadcast_or_may_be(
        self, toolbox: Any, rewriting: Any, draft: Any, shape: list[Any] | None
    ) -> None:
        y = conv(toolbox, draft, draft["x"])
        other = draft.op("Relu", draft["r"], node="other")
        other.shape = ir.Shape(shape) if shape is not None else None
        model = draft.model(draft.op("Add", y, other, node="sum"))
        rewriting.packed(model)
        result = FuseEpiloguePass()(model)
        assert not result.modified
        (declined,) = result.declined
        assert declined.reason.startswith("Add sum stays: other_out is not known to have the shape")

    def test_sizes_that_nobody_knows_are_not_equal(self, toolbox: Any, rewriting: Any) -> None:
        shape = [None, CHANNELS, None, None]
        draft = toolbox.Draft(x=shape, r=shape)
        y = draft.conv(draft.binarize(draft["x"]), toolbox.weights(CHANNELS, CHANNELS, 1, 1), shape=shape)
        (reason,) = self.untouched(rewriting, draft.model(draft.op("Add", y, draft["r"], shape=shape)))
        assert "not known to have the shape" in reason

    def test_a_slope_for_each_pixel(self, toolbox: Any, rewriting: Any, draft: Any) -> None:
        slope = draft.constant("slope", np.ones((CHANNELS, 5, 5), np.float32))
        y = draft.op("PRelu", conv(toolbox, draft, draft["x"]), slope, shape=IMAGE, node="bend")
        (reason,) = self.untouched(rewriting, draft.model(y))
        assert reason.startswith("PRelu bend stays: its slope")

    def test_bounds_that_are_computed(self, toolbox: Any, rewriting: Any) -> None:
        draft = toolbox.Draft(x=IMAGE, low=[])
        y = draft.op("Clip", conv(toolbox, draft, draft["x"]), draft["low"], shape=IMAGE, node="clamp")
        (reason,) = self.untouched(rewriting, draft.model(y))
        assert reason.startswith("Clip clamp stays: its bounds")

    def test_a_sum_beyond_float32(self, toolbox: Any, rewriting: Any, draft: Any) -> None:
        huge = [draft.constant(f"c{index}", np.float32([3e38])) for index in range(2)]
        y = draft.op("Add", conv(toolbox, draft, draft["x"]), huge[0], shape=IMAGE)
        model = rewriting.packed(draft.model(draft.op("Add", y, huge[1], shape=IMAGE, node="second")))
        result = rewriting.apply(model, FuseEpiloguePass())
        assert result.changes == 1
        assert result.declined[0].reason.startswith("Add second stays: the sum of the constants is not finite")

    def test_layers_that_are_not_packed_convolutions(self, toolbox: Any, rewriting: Any) -> None:
        draft = toolbox.Draft(x=["batch", 40], z=IMAGE)
        linear = draft.linear(draft.binarize(draft["x"], "fc"), toolbox.weights(6, 40), "fc", shape=["batch", 6])
        ternary = draft.binarize(draft["z"], "conv", "ternary")
        convolved = draft.conv(ternary, toolbox.weights(CHANNELS, CHANNELS, 1, 1), "conv", shape=IMAGE)
        ends = [draft.op("Relu", value, shape=value.shape) for value in (linear, convolved)]
        assert self.untouched(rewriting, draft.model(*ends)) == ()
