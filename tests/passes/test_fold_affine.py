"""Arithmetic with constants disappears into the scale and bias of the layer before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnn_deploy.passes.base import PassResult
from bnn_deploy.passes.fold_affine import FoldAffinePass

IMAGE = (2, 5, 6, 6)
OUTPUTS = 4
PER_CHANNEL = np.array([1 / 3, -2, 0.7, 5], np.float32)


def run(model: ir.Model) -> PassResult:
    result = FoldAffinePass()(model)
    assert isinstance(result, PassResult)
    return result


@pytest.fixture
def draft(toolbox: Any) -> Any:
    return toolbox.Draft(x=["batch", 5, 6, 6])


@pytest.fixture
def layer(toolbox: Any, draft: Any) -> ir.Value:
    """A binary convolution of 4 channels."""
    x = draft.binarize(draft["x"])
    return draft.conv(x, toolbox.weights(OUTPUTS, 5, 3, 3), "layer1.0.conv", bias=[0.5, 0, -1, 2])


CASES = {
    "y * c": ("Mul", True),
    "c * y": ("Mul", False),
    "y / c": ("Div", True),
    "y + c": ("Add", True),
    "c + y": ("Add", False),
    "y - c": ("Sub", True),
    "c - y": ("Sub", False),
}
SHAPES = [(), (1,), (1, 1, 1), (1, 1, 1, 1), (OUTPUTS, 1, 1), (1, OUTPUTS, 1, 1)]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_convolution(toolbox: Any, draft: Any, layer: ir.Value, case: str, shape: tuple[int, ...]) -> None:
    op_type, layer_first = CASES[case]
    c = draft.constant("c", PER_CHANNEL.reshape(shape) if OUTPUTS in shape else np.full(shape, -1 / 3, np.float32))
    model = toolbox.packed(draft.model(draft.op(op_type, *((layer, c) if layer_first else (c, layer)))))
    x = toolbox.adversarial(IMAGE).astype(np.float64)
    (expected,) = toolbox.evaluate(model, x=x)
    result = run(model)
    assert (result.changes, result.declined) == (1, ())
    assert op_type not in toolbox.op_types(model)
    (found,) = toolbox.evaluate(model, x=x)
    assert toolbox.close(found, expected)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("shape", [(), (1, 1), (OUTPUTS,), (1, OUTPUTS)], ids=str)
def test_fully_connected(toolbox: Any, case: str, shape: tuple[int, ...]) -> None:
    op_type, layer_first = CASES[case]
    draft = toolbox.Draft(x=["batch", 40])
    layer = draft.linear(draft.binarize(draft["x"]), toolbox.weights(OUTPUTS, 40))
    c = draft.constant("c", PER_CHANNEL.reshape(shape) if OUTPUTS in shape else np.full(shape, 3, np.float32))
    model = toolbox.packed(draft.model(draft.op(op_type, *((layer, c) if layer_first else (c, layer)))))
    x = toolbox.adversarial((3, 40)).astype(np.float64)
    (expected,) = toolbox.evaluate(model, x=x)
    assert run(model).changes == 1
    assert toolbox.close(toolbox.evaluate(model, x=x)[0], expected)


def test_a_layer_with_float_activations(toolbox: Any, draft: Any) -> None:
    y = draft.conv(draft["x"], toolbox.weights(OUTPUTS, 5, 3, 3))
    model = toolbox.packed(draft.model(draft.op("Mul", y, draft.constant("c", np.float32(3)))))
    x = toolbox.adversarial(IMAGE, finite=True).astype(np.float64)
    (expected,) = toolbox.evaluate(model, x=x)
    assert run(model).changes == 1
    assert toolbox.op_types(model) == ["BinaryWeightConv2d"]
    assert toolbox.close(toolbox.evaluate(model, x=x)[0], expected)


def test_a_constant_that_ops_compute(toolbox: Any, draft: Any, layer: ir.Value) -> None:
    column = draft.op("Unsqueeze", draft.constant("c", PER_CHANNEL), draft.constant("axes", np.array([1, 2])))
    model = toolbox.packed(draft.model(draft.op("Mul", column, layer)))
    x = toolbox.adversarial(IMAGE).astype(np.float64)
    (expected,) = toolbox.evaluate(model, x=x)
    assert run(model).changes == 1
    assert toolbox.close(toolbox.evaluate(model, x=x)[0], expected)


class TestChain:
    """Whatever is folded one after another, the numbers in the file are rounded once."""

    STEPS: tuple[tuple[str, float, Callable[[Any, Any], Any]], ...] = (
        ("Mul", 1 / 3, lambda y, c: y * c),
        ("Add", 0.1, lambda y, c: y + c),
        ("Div", 0.7, lambda y, c: y / c),
        ("Sub", -1 / 7, lambda y, c: y - c),
        ("Mul", -1.1, lambda y, c: y * c),
        ("Sub", 0.3, lambda y, c: c - y),
        ("Div", 3.0, lambda y, c: y / c),
    )

    def test_rounds_once(self, toolbox: Any) -> None:
        draft = toolbox.Draft(x=["batch", 5, 6, 6])
        latent = toolbox.weights(64, 5, 3, 3)
        y = draft.conv(draft.binarize(draft["x"]), latent)
        alpha = np.minimum(np.abs(latent.astype(np.float64)), 1).mean(axis=(1, 2, 3))
        exact, hasty = ([dtype(alpha), dtype(np.zeros(64))] for dtype in (np.longdouble, np.float32))
        for index, (op_type, value, apply) in enumerate(self.STEPS):
            c = draft.constant(f"c{index}", np.float32(value))
            reverse = index == 5
            y = draft.op(op_type, *((c, y) if reverse else (y, c)))
            for pair in (exact, hasty):
                constant = pair[0].dtype.type(np.float32(value))
                # scale is the slope: what acc = 1 gives beyond acc = 0
                slope = -pair[0] if reverse else pair[0] if op_type in ("Add", "Sub") else apply(pair[0], constant)
                pair[0], pair[1] = slope, apply(pair[1], constant)
        model = toolbox.packed(draft.model(y))
        assert run(model).changes == len(self.STEPS)
        layer = toolbox.node(model, "conv")
        found = [toolbox.array(layer.inputs[index]) for index in (2, 3)]
        for array, wanted, rounded_at_each_step in zip(found, exact, hasty, strict=True):
            assert array.tolist() == wanted.astype(np.float32).tolist()
            assert (array != rounded_at_each_step).any(), "or this test could not tell"

    def test_around_and_between_batch_norms(self, toolbox: Any) -> None:
        """`* c`, BatchNorm, `/ c`, `+ c`, BatchNorm, `c -`: gammas below, above and at 0, in every pairing."""
        draft = toolbox.Draft(x=["batch", 5, 6, 6])
        channels = 9
        signs = np.array([1, -1, 0], np.float32)
        norms = [list(toolbox.norm(channels, seed)) for seed in (2, 3)]
        for norm, gamma_signs in zip(norms, (np.repeat(signs, 3), np.tile(signs, 3)), strict=True):
            norm[0] = np.linspace(0.3, 1.7, channels, dtype=np.float32) * gamma_signs
        latent, bias = toolbox.weights(channels, 5, 3, 3), np.linspace(-1, 1, channels, dtype=np.float32)
        c = [np.float32(value) for value in (1 / 3, 0.7, 0.1, -1.1)]
        y = draft.conv(draft.binarize(draft["x"]), latent, bias=bias)
        y = draft.op("Mul", draft.constant("gain", c[0]), y)
        y = draft.batch_norm(y, norms[0], "first")
        y = draft.op("Div", y, draft.constant("divisor", c[1]))
        y = draft.op("Add", y, draft.constant("shift", c[2]))
        y = draft.batch_norm(y, norms[1], "second")
        y = draft.op("Sub", draft.constant("mirror", c[3]), y)
        model = toolbox.packed(draft.model(y))
        x = toolbox.adversarial(IMAGE).astype(np.float64)
        (expected,) = toolbox.evaluate(model, x=x)

        result = run(model)
        assert (result.changes, result.declined) == (6, ())
        layer = toolbox.node(model, "conv")
        assert toolbox.op_types(model) == ["Binarize", "PackBipolar", "PackedConv2d"]
        assert toolbox.close(toolbox.evaluate(model, x=x)[0], expected)

        alpha = np.minimum(np.abs(latent.astype(np.float64)), 1).mean(axis=(1, 2, 3))
        found = [toolbox.array(layer.inputs[index]).tolist() for index in (2, 3)]
        exact = scale_and_bias(alpha.astype(np.longdouble), bias.astype(np.longdouble), norms, c)
        assert found == [array.astype(np.float32).tolist() for array in exact]
        hasty = scale_and_bias(alpha.astype(np.float32), bias, norms, c)
        assert all((wanted != array).any() for wanted, array in zip(hasty, found, strict=True)), "or it could not tell"
        zero = (norms[0][0] == 0) | (norms[1][0] == 0)
        assert (np.array(found[0])[zero] == 0).all() and (np.array(found[0])[~zero] != 0).all()

    @settings(max_examples=25)
    @given(kinds=st.lists(st.sampled_from(["norm", "Mul", "Add", "Sub", "Div", "mirror"]), max_size=6))
    def test_in_any_order(self, toolbox: Any, kinds: list[str]) -> None:
        draft = toolbox.Draft(x=["batch", 5, 3, 3])
        y = draft.conv(draft.binarize(draft["x"]), toolbox.weights(OUTPUTS, 5, 1, 1), bias=[0, 0.5, -1, 2])
        for index, kind in enumerate(kinds):
            if kind == "norm":
                y = draft.batch_norm(y, toolbox.norm(OUTPUTS, index), f"bn{index}")
                continue
            c = draft.constant(f"c{index}", (PER_CHANNEL * (index + 1)).reshape(OUTPUTS, 1, 1))
            y = draft.op("Sub", c, y) if kind == "mirror" else draft.op(kind, y, c)
        model = toolbox.packed(draft.model(draft.op("Relu", y)))
        x = toolbox.adversarial((1, 5, 3, 3)).astype(np.float64)
        (expected,) = toolbox.evaluate(model, x=x)
        assert run(model).changes == len(kinds)
        assert toolbox.op_types(model) == ["Binarize", "PackBipolar", "PackedConv2d", "Relu"]
        (found,) = toolbox.evaluate(model, x=x)
        for channel in range(OUTPUTS):
            assert toolbox.close(found[:, channel], expected[:, channel])
        assert not run(model).modified

    def test_ends_where_something_else_reads(self, toolbox: Any, draft: Any, layer: ir.Value) -> None:
        """What is in front of a second reader folds, what is behind it stays, with the reason."""
        first = draft.batch_norm(layer, toolbox.norm(OUTPUTS), "first")
        second = draft.batch_norm(first, toolbox.norm(OUTPUTS, 3), "second")
        model = toolbox.packed(draft.model(second, draft.op("Relu", first)))
        result = run(model)
        assert result.changes == 1
        (declined,) = result.declined
        assert "second" in declined.reason and "read elsewhere" in declined.reason
        assert toolbox.op_types(model).count("BatchNormalization") == 1


def scale_and_bias(scale: Any, bias: Any, norms: Any, c: Any) -> tuple[Any, Any]:
    """Of the chain above, in the precision of `scale`, rounded after every step."""
    number = scale.dtype.type
    scale, bias = scale * number(c[0]), bias * number(c[0])
    for gamma, beta, mean, variance in norms:
        factor = gamma.astype(number) / np.sqrt(variance.astype(number) + number(np.float32(1e-5)))
        scale, bias = scale * factor, factor * (bias - mean) + beta
        if gamma is norms[0][0]:
            scale, bias = scale / number(c[1]), bias / number(c[1]) + number(c[2])
    return -scale, number(c[3]) - bias


class TestDeclined:
    def reason(self, toolbox: Any, model: ir.Model, image: tuple[int, ...] = IMAGE) -> str:
        return str(toolbox.declined(run, model, image).reason)

    @pytest.mark.parametrize(
        "shape",
        [(4,), (6,), (6, 6), (1, 1, 6), (4, 6, 1), (2, 1, 1, 1), (2, 4, 1, 1), (1, 1, 1, 1, 1)],
        ids=str,
    )
    def test_a_constant_that_does_not_vary_by_channel_alone(self, toolbox: Any, shape: tuple[int, ...]) -> None:
        """[4] on a [2, 4, 4, 4] output is one value per column."""
        draft = toolbox.Draft(x=["batch", 5, 6, 6])
        kernel = 3 if shape == (4,) else 1
        y = draft.conv(draft.binarize(draft["x"]), toolbox.weights(OUTPUTS, 5, kernel, kernel), "layer1.0.conv")
        model = draft.model(draft.op("Mul", y, draft.constant("c", np.full(shape, 2, np.float32))))
        assert str(list(shape)) in self.reason(toolbox, model)

    @pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1), (1, 3, 1)], ids=str)
    def test_a_constant_that_a_fully_connected_layer_does_not_have_the_axes_for(
        self, toolbox: Any, shape: tuple[int, ...]
    ) -> None:
        draft = toolbox.Draft(x=["batch", 40])
        y = draft.linear(draft.binarize(draft["x"]), toolbox.weights(OUTPUTS, 40), "layer1.0.conv")
        model = draft.model(draft.op("Mul", y, draft.constant("c", np.full(shape, 2, np.float32))))
        assert str(list(shape)) in self.reason(toolbox, model, (3, 40))

    @pytest.mark.parametrize("zero", [0.0, -0.0])
    def test_a_division_by_0(self, toolbox: Any, draft: Any, layer: ir.Value, zero: float) -> None:
        c = np.array([1, zero, 2, 3], np.float32).reshape(OUTPUTS, 1, 1)
        assert "by 0" in self.reason(toolbox, draft.model(draft.op("Div", layer, draft.constant("c", c))))

    def test_a_division_by_the_layer(self, toolbox: Any, draft: Any, layer: ir.Value) -> None:
        model = draft.model(draft.op("Div", draft.constant("c", np.float32(1)), layer))
        assert "divides by the layer's output" in self.reason(toolbox, model)

    @pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
    @pytest.mark.parametrize("op_type", ["Mul", "Add"])
    def test_a_constant_that_is_not_finite(
        self, toolbox: Any, draft: Any, layer: ir.Value, value: float, op_type: str
    ) -> None:
        model = draft.model(draft.op(op_type, layer, draft.constant("c", np.float32(value))))
        assert "not finite" in self.reason(toolbox, model)

    def test_an_output_that_is_read_twice(self, toolbox: Any, draft: Any, layer: ir.Value) -> None:
        scaled = draft.op("Mul", layer, draft.constant("c", np.float32(2)))
        assert "read elsewhere" in self.reason(toolbox, draft.model(scaled, draft.op("Relu", layer)))

    def test_an_output_of_the_network(self, toolbox: Any, draft: Any, layer: ir.Value) -> None:
        scaled = draft.op("Mul", layer, draft.constant("c", np.float32(2)))
        assert "output of the network" in self.reason(toolbox, draft.model(layer, scaled))


def test_two_layers_or_a_layer_and_the_input_are_no_case_for_it(toolbox: Any, draft: Any, layer: ir.Value) -> None:
    other = draft.conv(draft["x"], toolbox.weights(OUTPUTS, 5, 3, 3, seed=9), "other")
    model = toolbox.packed(draft.model(draft.op("Add", layer, other), draft.op("Mul", draft["x"], draft["x"])))
    result = run(model)
    assert (result.changes, result.declined) == (0, ())


def test_an_absorbed_output_of_the_network_keeps_its_name(toolbox: Any, draft: Any, layer: ir.Value) -> None:
    y = draft.op("Mul", layer, draft.constant("c", np.float32(2)))
    y.name = "logits"
    model = toolbox.packed(draft.model(y))
    run(model)
    assert [output.name for output in model.graph.outputs] == ["logits"]
    assert toolbox.node(model, "layer1.0.conv").outputs[0].name == "logits"


@settings(max_examples=30)
@given(
    c=st.lists(st.floats(-1e3, 1e3, width=32), min_size=OUTPUTS, max_size=OUTPUTS),
    op_type=st.sampled_from(["Mul", "Add", "Sub", "Div"]),
    layer_first=st.booleans(),
)
def test_any_constants(toolbox: Any, c: list[float], op_type: str, layer_first: bool) -> None:
    """Folded or declined, the outputs are the same."""
    draft = toolbox.Draft(x=["batch", 5, 3, 3])
    y = draft.conv(draft.binarize(draft["x"]), toolbox.weights(OUTPUTS, 5, 1, 1), bias=[0, 0.5, -1, 2])
    constant = draft.constant("c", np.array(c, np.float32).reshape(OUTPUTS, 1, 1))
    model = toolbox.packed(draft.model(draft.op(op_type, *((y, constant) if layer_first else (constant, y)))))
    x = toolbox.adversarial((1, 5, 3, 3)).astype(np.float64)
    (expected,) = toolbox.evaluate(model, x=x)
    result = run(model)
    assert result.changes + len(result.declined) == 1
    (found,) = toolbox.evaluate(model, x=x)
    for channel in range(OUTPUTS):
        assert toolbox.close(found[:, channel], expected[:, channel])
