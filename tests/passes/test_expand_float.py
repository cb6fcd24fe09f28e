"""The float twin: plain convolutions with ±alpha weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from bnn_deploy.errors import InputRefused
from bnn_deploy.passes.expand_float import ExpandFloatPass
from bnn_deploy.passes.name_layers import NameLayersPass


def run(model: ir.Model) -> ir.Model:
    NameLayersPass()(model)
    ExpandFloatPass()(model)
    return model


@pytest.mark.parametrize("pad_value", [-1.0, 0.0, 1.0])
@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 0, 2, 1]])
@pytest.mark.parametrize("bias", [None, [1, -1, 0.5, 0]])
@pytest.mark.parametrize("scale", ["none", "tensor", "channel"])
def test_convolution(toolbox: Any, pad_value: float, pads: list[int], bias: Any, scale: str) -> None:
    draft = toolbox.Draft(x=["batch", 6, 8, 7])
    geometry = {"strides": [2, 1], "pads": pads, "dilations": [1, 2], "group": 2, "pad_value": pad_value}
    latent = toolbox.weights(4, 3, 3, 2)
    model = draft.model(draft.conv(draft["x"], latent, bias=bias, weight_scale=scale, **geometry))
    x = toolbox.adversarial((2, 6, 8, 7), finite=True).astype(np.float64)
    (expected,) = toolbox.evaluate(model, x=x)
    run(model)
    frames = ["Pad"] if pad_value and any(pads) else []
    assert toolbox.op_types(model) == [*frames, "Conv"]
    assert toolbox.close(toolbox.evaluate(model, x=x)[0], expected)
    weight = toolbox.array(toolbox.node(model, "conv").inputs[1])
    assert (weight.dtype, weight.shape) == (np.float32, latent.shape)
    assert (np.sign(weight) == np.sign(latent)).all()
    (found,) = toolbox.run_in_onnxruntime(model, {"x": x.astype(np.float32)})
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())  # sums in float32


@pytest.mark.parametrize("shape", [(3, 40), (2, 5, 40), (40,)])
@pytest.mark.parametrize("bias", [None, [1, -1, 0.5, 0]])
def test_fully_connected(toolbox: Any, shape: tuple[int, ...], bias: Any) -> None:
    draft = toolbox.Draft(x=[None] * len(shape))
    model = draft.model(draft.linear(draft["x"], toolbox.weights(4, 40), bias=bias))
    x = toolbox.adversarial(shape, finite=True).astype(np.float64)
    (expected,) = toolbox.evaluate(model, x=x)
    run(model)
    assert toolbox.op_types(model) == ["MatMul"] if bias is None else ["MatMul", "Add"]
    assert toolbox.node(model, "fc").op_type == "MatMul"
    assert toolbox.close(toolbox.evaluate(model, x=x)[0], expected)


@pytest.mark.parametrize("weight_zero", ["one", "zero"])
def test_a_zero_weight_is_what_the_layer_says(toolbox: Any, weight_zero: str) -> None:
    latent = toolbox.weights(2, 3, 1, 1)
    latent[0, 0], latent[1, 2] = 0.0, -0.0
    draft = toolbox.Draft(x=["batch", 3, 2, 2])
    model = draft.model(draft.conv(draft["x"], latent, weight_zero=weight_zero))
    x = toolbox.adversarial((2, 3, 2, 2), finite=True).astype(np.float64)
    (expected,) = toolbox.evaluate(model, x=x)
    run(model)
    weight = toolbox.array(toolbox.node(model, "conv").inputs[1])
    assert [weight[0, 0, 0, 0] > 0, weight[1, 2, 0, 0] > 0] == [weight_zero == "one"] * 2
    assert (weight == 0).any() == (weight_zero == "zero")
    assert toolbox.close(toolbox.evaluate(model, x=x)[0], expected)


def test_a_weight_that_two_layers_share(toolbox: Any) -> None:
    draft = toolbox.Draft(x=["batch", 3, 4, 4])
    weight = draft.constant("conv.weight", toolbox.weights(3, 3, 1, 1))
    y = draft.conv(draft.conv(draft["x"], weight, "conv"), weight, "conv", weight_scale="none")
    model = draft.model(y)
    x = toolbox.adversarial((2, 3, 4, 4), finite=True).astype(np.float64)
    (expected,) = toolbox.evaluate(model, x=x)
    run(model)
    assert [node.name for node in model.graph] == ["conv", "conv#2"]
    assert toolbox.close(toolbox.evaluate(model, x=x)[0], expected)


def test_weights_that_depend_on_the_input_are_refused_by_name(toolbox: Any) -> None:
    draft = toolbox.Draft(x=["batch", 3, 1, 1])
    model: ir.Model = draft.model(draft.conv(draft["x"], draft.op("Tanh", draft["x"]), "layer1.0.conv"))
    with pytest.raises(InputRefused, match=r"layer1\.0\.conv: the weights are computed from the network's input"):
        run(model)
