"""Latent weights become bits, a scale and a bias; what cannot is refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from bnn_deploy import bits
from bnn_deploy.bits import Levels
from bnn_deploy.errors import InputRefused
from bnn_deploy.passes.pack_weights import PackWeightsPass, weight_scale

GEOMETRY = {"strides": [2, 1], "pads": [1, 0, 2, 1], "dilations": [1, 2], "group": 2, "pad_value": -1.0}


def signs(model: ir.Model, name: str, channels: int, toolbox: Any) -> NDArray[np.int8]:
    """The weights of a layer as the file holds them: [O, C / group, KH, KW] or [O, C]."""
    words = toolbox.array(toolbox.node(model, name).inputs[1])
    assert words.dtype == np.int32
    return np.moveaxis(bits.unpack_levels(words, channels, Levels.BIPOLAR), -1, 1)


def run(model: ir.Model) -> ir.Model:
    """The pass, in place; nodes get the names of their layers first, as in the pipeline."""
    for node in model.graph:
        if node.domain == "bnn_deploy":
            node.name = node.attributes["layer"].as_string()
    assert PackWeightsPass()(model).modified
    return model


@pytest.mark.parametrize("scale", ["none", "tensor", "channel"])
@pytest.mark.parametrize("clamp", [0, 1])
@pytest.mark.parametrize("bias", [None, [0.5, -1, 0, 2]])
def test_convolution(toolbox: Any, scale: str, clamp: int, bias: list[float] | None) -> None:
    draft = toolbox.Draft(x=["batch", 70, 8, 7])
    latent = toolbox.weights(4, 35, 3, 2)
    y = draft.conv(draft["x"], latent, bias=bias, weight_scale=scale, weight_clamp=clamp, **GEOMETRY)
    model = draft.model(y)
    x = toolbox.adversarial((2, 70, 8, 7), finite=True).astype(np.float64)
    (expected,) = toolbox.evaluate(model, x=x)
    run(model)
    (node,) = model.graph
    assert (node.op_type, node.name) == ("BinaryWeightConv2d", "conv")
    assert {name: attribute.value for name, attribute in node.attributes.items()} == {
        **{name: tuple(value) if isinstance(value, list) else value for name, value in GEOMETRY.items()},
        "channels": 70,
    }
    assert (signs(model, "conv", 35, toolbox) == np.where(latent >= 0, 1, -1)).all()
    assert toolbox.array(node.inputs[1]).shape == (4, 3, 2, 2)
    (found,) = toolbox.evaluate(model, x=x)
    assert toolbox.close(found, expected)


def test_nan_and_infinite_activations_go_where_they_went(toolbox: Any) -> None:
    draft = toolbox.Draft(x=["batch", 3, 6, 6])
    model = draft.model(draft.conv(draft["x"], toolbox.weights(4, 3, 3, 3), pads=[1, 1, 1, 1]))
    x = np.random.default_rng(0).standard_normal((3, 3, 6, 6))
    x[0, 0, 0, 0], x[1, 1, 2, 2], x[2, 2, 5, 5] = np.nan, np.inf, -np.inf
    (expected,) = toolbox.evaluate(model, x=x)
    (found,) = toolbox.evaluate(run(model), x=x)
    assert toolbox.close(found, expected)
    assert (np.isfinite(found) == np.isfinite(expected)).all()
    infinite = np.isinf(expected)
    assert infinite.any()
    assert (found[infinite] == expected[infinite]).all()


@pytest.mark.parametrize(
    ("kind", "clamp", "expected"),
    [
        ("none", False, [1, 1]),
        ("tensor", False, [1.5, 1.5]),
        ("tensor", True, [0.625, 0.625]),
        ("channel", False, [2.25, 0.75]),
        ("channel", True, [0.75, 0.5]),
    ],
)
def test_scale(kind: str, clamp: bool, expected: list[float]) -> None:
    latent = np.array([[4, -0.5], [-1.5, 0]], np.float32).reshape(2, 1, 1, 2)
    scale = weight_scale(latent, kind, clamp)
    assert scale.dtype == np.float64
    assert scale.tolist() == expected


def test_scale_is_summed_in_float64(toolbox: Any) -> None:
    """In float32 the small ones would be lost beside the great one."""
    latent = np.array([[2.0**24, *[1.0] * 1000]], np.float32)
    assert weight_scale(latent, "channel", False).tolist() == [(2.0**24 + 1000) / 1001]


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_a_zero_weight_is_plus_one_where_the_layer_says_so(toolbox: Any, zero: float) -> None:
    latent = toolbox.weights(2, 3, 1, 1)
    latent[0, 1] = zero
    draft = toolbox.Draft(x=["batch", 3, 2, 2])
    model = draft.model(draft.conv(draft["x"], latent, weight_zero="one"))
    x = toolbox.adversarial((2, 3, 2, 2), finite=True).astype(np.float64)
    (expected,) = toolbox.evaluate(model, x=x)
    run(model)
    assert signs(model, "conv", 3, toolbox)[0, 1] == 1
    assert toolbox.close(toolbox.evaluate(model, x=x)[0], expected)


def test_a_channel_of_zeros_has_scale_0(toolbox: Any) -> None:
    draft = toolbox.Draft(x=["batch", 3, 2, 2])
    latent = toolbox.weights(2, 3, 1, 1)
    latent[1] = 0
    model = run(draft.model(draft.conv(draft["x"], latent, bias=[1, 2])))
    assert toolbox.array(toolbox.node(model, "conv").inputs[2])[1] == 0
    (y,) = toolbox.evaluate(model, x=np.ones((1, 3, 2, 2)))
    assert (y[0, 1] == 2).all()


class TestRefused:
    def refusal(self, toolbox: Any, weight: Any, **overrides: Any) -> str:
        draft = toolbox.Draft(x=["batch", 3, 4, 4])
        weight = weight(draft) if callable(weight) else weight
        model = draft.model(draft.conv(draft["x"], weight, "layer1.0.conv", **overrides))
        with pytest.raises(InputRefused) as refused:
            run(model)
        assert refused.value.where == "layer1.0.conv"
        assert refused.value.fix or refused.value.wanted
        return str(refused.value)

    @pytest.mark.parametrize("edge", [np.nan, np.inf, -np.inf])
    def test_weights_that_are_not_finite(self, toolbox: Any, edge: float) -> None:
        latent = toolbox.weights(2, 3, 2, 2)
        latent[0, 0, 0, 0] = latent[1, 2, 1, 1] = edge
        assert "2 of 24 weights are NaN or infinite" in self.refusal(toolbox, latent)

    @pytest.mark.parametrize("zero", [0.0, -0.0])
    def test_zeros_where_the_sign_of_0_is_0(self, toolbox: Any, zero: float) -> None:
        latent = toolbox.weights(2, 3, 2, 2)
        latent[0, :, 0, 0] = zero
        message = self.refusal(toolbox, latent, weight_zero="zero")
        assert "3 exact zeros of 24" in message
        assert "--sign-zero one" in message

    @pytest.mark.parametrize("dtype", [np.float16, np.float64])
    def test_other_float_types(self, toolbox: Any, dtype: type) -> None:
        message = self.refusal(toolbox, toolbox.weights(2, 3, 2, 2).astype(dtype))
        assert np.dtype(dtype).name in message
        assert "float32" in message

    def test_weights_that_depend_on_the_input(self, toolbox: Any) -> None:
        message = self.refusal(toolbox, lambda draft: draft.op("Tanh", draft["x"]))
        assert "computed from the network's input" in message

    def test_a_bias_that_depends_on_the_input(self, toolbox: Any) -> None:
        draft = toolbox.Draft(x=["batch", 3, 4, 4], b=[2])
        model = draft.model(draft.conv(draft["x"], toolbox.weights(2, 3, 1, 1), "conv7", bias=draft["b"]))
        with pytest.raises(InputRefused, match=r"conv7: the bias is computed from the network's input"):
            run(model)

    def test_no_zero_is_no_reason(self, toolbox: Any) -> None:
        draft = toolbox.Draft(x=["batch", 3, 4, 4])
        run(draft.model(draft.conv(draft["x"], toolbox.weights(2, 3, 1, 1), weight_zero="zero")))


def test_a_weight_column_that_is_reshaped_in_forward(toolbox: Any) -> None:
    """As published Bi-Real Net checkpoints store it: (N, 1), brought into shape by an op in the graph."""
    latent = toolbox.weights(4, 3, 3, 3)
    draft = toolbox.Draft(x=["batch", 3, 5, 5])
    column = draft.constant("conv.weights", latent.reshape(-1, 1))
    shape = draft.op("Constant", value_ints=[4, 3, 3, 3])
    model = draft.model(draft.conv(draft["x"], draft.op("Reshape", column, shape)))
    x = toolbox.adversarial((1, 3, 5, 5), finite=True).astype(np.float64)
    (expected,) = toolbox.evaluate(model, x=x)
    run(model)
    assert (signs(model, "conv", 3, toolbox) == np.where(latent >= 0, 1, -1)).all()
    assert toolbox.close(toolbox.evaluate(model, x=x)[0], expected)


def test_a_weight_that_two_layers_share_serves_both(toolbox: Any) -> None:
    draft = toolbox.Draft(x=["batch", 3, 4, 4])
    latent = toolbox.weights(3, 3, 1, 1)
    weight, bias = draft.constant("shared.weight", latent), draft.constant("shared.bias", [1, 2, 3])
    y = draft.conv(draft["x"], weight, "first", bias=bias, weight_scale="none")
    model = run(draft.model(draft.conv(y, weight, "second", bias=bias)))
    assert (signs(model, "first", 3, toolbox) == signs(model, "second", 3, toolbox)).all()
    assert toolbox.array(toolbox.node(model, "first").inputs[2]).tolist() == [1, 1, 1]
    expected = np.minimum(np.abs(latent.astype(np.float64)), 1).mean(axis=(1, 2, 3)).astype(np.float32)
    assert toolbox.array(toolbox.node(model, "second").inputs[2]).tolist() == expected.tolist()


class TestLinear:
    def test_rank_2_stays_one_node(self, toolbox: Any) -> None:
        draft = toolbox.Draft(x=["batch", 40])
        latent = toolbox.weights(5, 40)
        model = draft.model(draft.linear(draft["x"], latent, bias=[1, 2, 3, 4, 5]))
        x = toolbox.adversarial((3, 40), finite=True).astype(np.float64)
        (expected,) = toolbox.evaluate(model, x=x)
        run(model)
        assert toolbox.op_types(model) == ["BinaryWeightLinear"]
        assert (signs(model, "fc", 40, toolbox) == np.where(latent >= 0, 1, -1)).all()
        assert toolbox.close(toolbox.evaluate(model, x=x)[0], expected)

    @pytest.mark.parametrize("lead", [(3,), (2, 5), (2, 3, 2)])
    @pytest.mark.parametrize("known", [True, False])
    def test_leading_axes_are_gathered_to_rows_and_restored(
        self, toolbox: Any, lead: tuple[int, ...], known: bool
    ) -> None:
        draft = toolbox.Draft(x=["batch", *[None] * (len(lead) - 1), 40])
        if not known:
            draft["x"].shape = None
        model = draft.model(draft.linear(draft["x"], toolbox.weights(5, 40), bias=[1, 2, 3, 4, 5]))
        name = model.graph.outputs[0].name
        x = toolbox.adversarial((*lead, 40), finite=True).astype(np.float64)
        (expected,) = toolbox.evaluate(model, x=x)
        run(model)
        (found,) = toolbox.evaluate(model, x=x)
        assert found.shape == (*lead, 5)
        assert toolbox.close(found, expected)
        assert model.graph.outputs[0].name == name
        assert toolbox.op_types(model)[-2:] == ["BinaryWeightLinear", "Reshape"] or len(lead) == 1
