"""What stands in front of a binarisation moves into its thresholds, and no bit changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bnn_deploy.passes.absorb_threshold import AbsorbThresholdPass

CHANNELS = 35  # two words, the last ragged
SHIFT = np.linspace(-2, 2, CHANNELS, dtype=np.float32).reshape(CHANNELS, 1, 1)
FACTOR = np.tile(np.float32([2, -0.5, 0, 1 / 3, -7]), CHANNELS // 5).reshape(CHANNELS, 1, 1)
CHAINS = ("add", "sub", "subtract_from", "mul", "div", "relu", "hardtanh", "prelu", "leaky_relu")


def follow(draft: Any, x: ir.Value, kind: str) -> ir.Value:
    """One op behind x. Its constants have one value per channel but where one number is what the op has."""
    name = f"{kind}{len(draft.nodes)}"
    described = {"shape": x.shape, "node": name}

    def fit(array: NDArray[np.float32]) -> ir.Value:
        return draft.constant(f"{name}.c", array if len(x.shape) == 4 else array.reshape(-1))

    if kind == "add":
        return draft.op("Add", fit(SHIFT), x, **described)
    if kind == "sub":
        return draft.op("Sub", x, fit(SHIFT), **described)
    if kind == "subtract_from":
        return draft.op("Sub", fit(SHIFT), x, **described)
    if kind == "mul":
        return draft.op("Mul", x, fit(FACTOR), **described)
    if kind == "div":
        return draft.op("Div", x, draft.constant(f"{name}.c", np.float32(-3)), **described)
    if kind == "hardtanh":
        bounds = [draft.constant(f"{name}.{end}", np.float32(value)) for end, value in (("low", -1), ("high", 1))]
        return draft.op("Clip", x, *bounds, **described)
    if kind == "prelu":
        return draft.op("PRelu", x, fit(np.abs(FACTOR)), **described)
    return draft.op({"relu": "Relu", "leaky_relu": "LeakyRelu"}[kind], x, **described)


def network(
    toolbox: Any, rewriting: Any, kinds: Any, levels: str = "bipolar", spatial: tuple[int, ...] = (3, 3)
) -> Any:
    """The kinds one after another, a binarisation whose bits are an output, and a layer that reads it."""
    draft = toolbox.Draft(x=["batch", CHANNELS, *spatial])
    value = draft["x"]
    for kind in kinds:
        value = follow(draft, value, kind)
    binarized = draft.binarize(value, "layer", levels)
    if spatial:
        y = draft.conv(binarized, toolbox.weights(3, CHANNELS, 1, 1), "layer", shape=["batch", 3, *spatial])
    else:
        y = draft.linear(binarized, toolbox.weights(3, CHANNELS), "layer", shape=["batch", 3])
    model = rewriting.packed(draft.model(y))
    model.graph.outputs.append(toolbox.node(model, "layer/Binarize").outputs[0])
    return model


def inputs(toolbox: Any, shape: tuple[int, ...], *, finite: bool) -> NDArray[np.float32]:
    """Edges; in every other image the values at which one of the kinds reaches 0 or a bound, with their neighbours."""
    x = toolbox.adversarial(shape, finite=finite)
    fixed = np.tile(np.float32([-1, 0, 1]), (CHANNELS, 1))
    ties = np.concatenate([fixed, SHIFT[:, 0], -SHIFT[:, 0]], axis=1)
    near = np.concatenate([ties, np.nextafter(ties, np.float32(9)), np.nextafter(ties, np.float32(-9))], axis=1)
    pixels = x.reshape(*shape[:2], -1)
    for image in range(0, shape[0], 2):
        pixels[image] = near[:, (2 * image + np.arange(pixels.shape[2])) % near.shape[1]]
    return x


def same_bits(toolbox: Any, rewriting: Any, model: Any, x: NDArray[np.float32], absorbed: int) -> None:
    before = rewriting.outputs(model, x=x)
    result = rewriting.apply(model, AbsorbThresholdPass())
    assert (result.changes, result.declined) == (absorbed, ())
    assert toolbox.op_types(model)[0] == "PackInterval"
    for found, expected in zip(rewriting.outputs(model, x=x), before, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("levels", ["bipolar", "unipolar"])
@pytest.mark.parametrize("kind", CHAINS)
def test_one_op(toolbox: Any, rewriting: Any, kind: str, levels: str) -> None:
    model = network(toolbox, rewriting, [kind], levels)
    # What ONNX Runtime makes of NaN in front of a clamp is nowhere defined.
    finite = kind in ("relu", "hardtanh", "prelu", "leaky_relu")
    same_bits(toolbox, rewriting, model, inputs(toolbox, (7, CHANNELS, 3, 3), finite=finite), 1)
    pack = toolbox.node(model, "layer/Binarize")
    assert [value.name for value in pack.inputs[1:]] == ["layer/Binarize.lower", "layer/Binarize.upper"]


@settings(max_examples=50)
@given(st.lists(st.sampled_from(CHAINS), min_size=2, max_size=4), st.sampled_from([(), (1, 1), (2, 5)]), st.booleans())
def test_several(toolbox: Any, rewriting: Any, kinds: list[str], spatial: tuple[int, ...], unipolar: bool) -> None:
    model = network(toolbox, rewriting, kinds, "unipolar" if unipolar else "bipolar", spatial)
    same_bits(toolbox, rewriting, model, inputs(toolbox, (7, CHANNELS, *spatial), finite=True), len(kinds))


class TestBatchNorm:
    def network(self, toolbox: Any, rewriting: Any, parameters: Any, levels: str = "bipolar") -> Any:
        draft = toolbox.Draft(x=["batch", CHANNELS, 3, 3])
        norm = draft.batch_norm(draft["x"], parameters, shape=draft["x"].shape)
        y = draft.conv(draft.binarize(norm, "layer", levels), toolbox.weights(3, CHANNELS, 1, 1), "layer")
        y.shape = ir.Shape(["batch", 3, 3, 3])
        model = rewriting.packed(draft.model(y))
        model.graph.outputs.append(toolbox.node(model, "layer/Binarize").outputs[0])
        return model

    def parameters(self, toolbox: Any) -> list[NDArray[np.float32]]:
        """gamma of both signs, and 0 with beta below, at and above 0; in the last channels beta is 0."""
        gamma, beta, mean, variance = (array.copy() for array in toolbox.norm(CHANNELS))
        gamma[:4], beta[:4] = 0, [-1, 0, -0.0, 1]
        beta[-4:] = 0
        return [gamma, beta, mean, variance]

    @pytest.mark.parametrize("batch", [1, 7])
    def test_random(self, toolbox: Any, rewriting: Any, batch: int) -> None:
        model = self.network(toolbox, rewriting, self.parameters(toolbox))
        same_bits(toolbox, rewriting, model, toolbox.adversarial((batch, CHANNELS, 3, 3)), 1)

    def test_all_equal_channels(self, toolbox: Any, rewriting: Any) -> None:
        parameters = self.parameters(toolbox)
        x = np.broadcast_to(np.float32([-30, -0.1, 0, 0.1, 30, 2, -2])[:, None, None, None], (7, CHANNELS, 3, 3))
        same_bits(toolbox, rewriting, self.network(toolbox, rewriting, parameters), np.ascontiguousarray(x), 1)

    def test_a_tie_at_the_mean(self, toolbox: Any, rewriting: Any) -> None:
        """beta = 0 and x the mean itself: BatchNorm gives 0, +1 for every gamma; one step off, gamma decides."""
        gamma, _, mean, variance = self.parameters(toolbox)
        gamma[:4] = [1, -1, 0.5, -0.5]
        model = self.network(toolbox, rewriting, (gamma, np.zeros_like(mean), mean, variance))
        AbsorbThresholdPass()(model)
        for x, expected in (
            (mean, np.ones(CHANNELS)),
            (np.nextafter(mean, np.float32(9)), gamma > 0),
            (np.nextafter(mean, np.float32(-9)), gamma < 0),
        ):
            bits = rewriting.outputs(model, x=np.broadcast_to(x[:, None, None], (1, CHANNELS, 3, 3)).copy())[1]
            np.testing.assert_array_equal(toolbox.bits_of(bits, CHANNELS)[0, 0, 0], expected)

    def test_the_threshold_is_the_float32_next_to_the_exact_one(self, toolbox: Any, rewriting: Any) -> None:
        parameters = self.parameters(toolbox)
        gamma = parameters[0]
        model = self.network(toolbox, rewriting, parameters)
        AbsorbThresholdPass()(model)
        pack = toolbox.node(model, "layer/Binarize")
        lower, upper = (toolbox.array(value) for value in pack.inputs[1:])
        wide = [np.asarray(array, np.longdouble) for array in parameters]
        rises, falls = gamma > 0, gamma < 0
        with np.errstate(all="ignore"):
            exact = wide[2] - wide[1] * np.sqrt(wide[3] + np.longdouble(np.float32(1e-5))) / wide[0]
            assert ((lower >= exact) & (np.nextafter(lower, np.float32(-np.inf)) < exact))[rises].all()
            assert ((upper <= exact) & (np.nextafter(upper, np.float32(np.inf)) > exact))[falls].all()
        assert np.isposinf(upper[rises]).all()
        assert np.isneginf(lower[falls]).all()
        always = np.finfo(np.float32).max
        assert (lower <= upper)[:4].tolist() == [False, True, True, True]
        assert (lower[1:4], upper[1:4]) == (pytest.approx([-always] * 3), pytest.approx([always] * 3))

    def test_behind_a_relu(self, toolbox: Any, rewriting: Any) -> None:
        """What `torch.sign` makes of relu(bn(x)): 0 at a tie."""
        draft = toolbox.Draft(x=["batch", CHANNELS, 3, 3])
        ones, zeros = np.ones(CHANNELS, np.float32), np.zeros(CHANNELS, np.float32)
        norm = draft.batch_norm(draft["x"], (ones, zeros, ones, ones), epsilon=0.0, shape=draft["x"].shape)
        y = draft.conv(
            draft.binarize(draft.op("Relu", norm, shape=norm.shape), "layer", "unipolar"),
            toolbox.weights(3, CHANNELS, 1, 1),
            "layer",
            shape=["batch", 3, 3, 3],
        )
        model = rewriting.packed(draft.model(y))
        x = inputs(toolbox, (7, CHANNELS, 3, 3), finite=True)
        x[0] = 1
        same_bits(toolbox, rewriting, model, x, 2)

    def test_a_ternary_binarisation_declines(self, toolbox: Any, rewriting: Any) -> None:
        model = self.network(toolbox, rewriting, self.parameters(toolbox), "ternary")
        (declined,) = rewriting.apply(model, AbsorbThresholdPass()).declined
        assert declined.layer == "layer/Binarize"
        assert declined.reason.startswith("BatchNorm bn stays: ")
        assert "--sign-zero one" in declined.reason

    def test_training_mode_and_infinite_factors_decline(self, toolbox: Any, rewriting: Any) -> None:
        gamma, beta, mean, variance = self.parameters(toolbox)
        model = self.network(toolbox, rewriting, (gamma, beta, mean, -variance))
        (declined,) = rewriting.apply(model, AbsorbThresholdPass()).declined
        assert "infinite thresholds" in declined.reason
        toolbox.node(model, "bn").attributes["training_mode"] = ir.AttrInt64("training_mode", 1)
        (declined,) = AbsorbThresholdPass()(model).declined
        assert "model.eval()" in declined.reason


class TestWhoElseReads:
    """RSign shifts and BatchNorms stay where somebody needs them in float."""

    @pytest.fixture
    def draft(self, toolbox: Any) -> Any:
        return toolbox.Draft(x=["batch", CHANNELS, 3, 3])

    def layer(self, toolbox: Any, draft: Any, value: ir.Value, name: str) -> ir.Value:
        shape = ["batch", 3, 3, 3]
        return draft.conv(draft.binarize(value, name), toolbox.weights(3, CHANNELS, 1, 1), name, shape=shape)

    def stays(self, rewriting: Any, model: ir.Model) -> None:
        rewriting.packed(model)
        result = rewriting.apply(model, AbsorbThresholdPass())
        assert (result.changes, result.declined) == (0, ())

    def test_a_shortcut(self, toolbox: Any, rewriting: Any, draft: Any) -> None:
        shifted = follow(draft, draft["x"], "add")
        self.stays(
            rewriting,
            draft.model(self.layer(toolbox, draft, shifted, "a"), draft.op("Neg", shifted, shape=shifted.shape)),
        )

    def test_an_output(self, toolbox: Any, rewriting: Any, draft: Any) -> None:
        norm = draft.batch_norm(draft["x"], toolbox.norm(CHANNELS), shape=draft["x"].shape)
        self.stays(rewriting, draft.model(self.layer(toolbox, draft, norm, "a"), norm))

    def test_a_prelu_that_falls(self, toolbox: Any, rewriting: Any, draft: Any) -> None:
        slope = draft.constant("slope", FACTOR)
        bent = draft.op("PRelu", draft["x"], slope, shape=draft["x"].shape)
        self.stays(rewriting, draft.model(self.layer(toolbox, draft, bent, "a")))

    def test_an_addition_of_two_tensors(self, toolbox: Any, rewriting: Any, draft: Any) -> None:
        doubled = draft.op("Add", draft["x"], draft["x"], shape=draft["x"].shape)
        self.stays(rewriting, draft.model(self.layer(toolbox, draft, doubled, "a")))

    def test_a_channel_that_is_broadcast(self, toolbox: Any, rewriting: Any) -> None:
        draft = toolbox.Draft(x=["batch", 1, 3, 3])
        wide = draft.op("Add", draft["x"], draft.constant("c", SHIFT), shape=["batch", CHANNELS, 3, 3])
        self.stays(rewriting, draft.model(self.layer(toolbox, draft, wide, "a")))

    def test_several_binarisations_with_shifts_of_their_own(self, toolbox: Any, rewriting: Any, draft: Any) -> None:
        norm = draft.batch_norm(draft["x"], toolbox.norm(CHANNELS), shape=draft["x"].shape)
        first = self.layer(toolbox, draft, norm, "a")
        second = self.layer(toolbox, draft, follow(draft, norm, "add"), "b")
        third = self.layer(toolbox, draft, draft["x"], "c")
        model = rewriting.packed(draft.model(first, second, third))
        x = toolbox.adversarial((7, CHANNELS, 3, 3))
        before = rewriting.outputs(model, x=x)
        result = rewriting.apply(model, AbsorbThresholdPass())
        assert (result.changes, result.declined) == (3, ())
        assert toolbox.op_types(model).count("PackInterval") == 2
        for found, expected in zip(rewriting.outputs(model, x=x), before, strict=True):
            np.testing.assert_array_equal(found, expected)

    def test_a_float_reader_of_x_itself_does_not_matter(self, toolbox: Any, rewriting: Any, draft: Any) -> None:
        y = self.layer(toolbox, draft, follow(draft, draft["x"], "add"), "a")
        model = rewriting.packed(draft.model(y, draft.op("Neg", draft["x"], shape=draft["x"].shape)))
        assert rewriting.apply(model, AbsorbThresholdPass()).changes == 1
