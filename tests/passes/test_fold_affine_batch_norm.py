"""Folding, where what follows the layer is a BatchNorm; `test_fold_affine.py` has arithmetic, and chains of both."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from bnn_deploy.passes.base import PassResult
from bnn_deploy.passes.fold_affine import FoldAffinePass

IMAGE = (2, 5, 6, 6)


def run(model: ir.Model) -> PassResult:
    result = FoldAffinePass()(model)
    assert isinstance(result, PassResult)
    return result


def derived(toolbox: Any, parameters: Any, scale: NDArray[Any], bias: NDArray[Any], epsilon: float) -> Any:
    """The folded scale and bias in extended precision, rounded to float32."""
    gamma, beta, mean, variance = (np.asarray(array, np.longdouble) for array in parameters)
    deviation = np.sqrt(variance + np.longdouble(np.float32(epsilon)))
    return (
        (gamma * np.asarray(scale, np.longdouble) / deviation).astype(np.float32),
        (gamma * (np.asarray(bias, np.longdouble) - mean) / deviation + beta).astype(np.float32),
    )


@pytest.mark.parametrize("epsilon", [1e-5, 0.1])
@pytest.mark.parametrize("activations", ["bipolar", "ternary", "float"])
def test_convolution(toolbox: Any, activations: str, epsilon: float) -> None:
    draft = toolbox.Draft(x=["batch", 5, 6, 6])
    latent, parameters = toolbox.weights(6, 5, 3, 3), toolbox.norm(6)
    x = draft["x"] if activations == "float" else draft.binarize(draft["x"], levels=activations)
    y = draft.conv(x, latent, bias=[0.5, 1, -1, 0, 2, 3])
    model = toolbox.packed(draft.model(draft.batch_norm(y, parameters, epsilon=epsilon)))
    fed = toolbox.adversarial(IMAGE, finite=True).astype(np.float64)
    (expected,) = toolbox.evaluate(model, x=fed)
    result = run(model)
    assert (result.changes, result.declined) == (1, ())
    assert "BatchNormalization" not in toolbox.op_types(model)
    assert toolbox.close(toolbox.evaluate(model, x=fed)[0], expected)
    alpha = np.minimum(np.abs(latent.astype(np.float64)), 1).mean(axis=(1, 2, 3))
    layer = toolbox.node(model, "conv")
    scale, bias = derived(toolbox, parameters, alpha, np.array([0.5, 1, -1, 0, 2, 3]), epsilon)
    assert toolbox.array(layer.inputs[2]).tolist() == scale.tolist()
    assert toolbox.array(layer.inputs[3]).tolist() == bias.tolist()
    assert (scale < 0).any(), "a negative gamma turns the scale around"
    assert (scale[1], bias[1]) == (0, parameters[1][1]), "gamma 0 leaves beta alone"


def test_fully_connected(toolbox: Any) -> None:
    draft = toolbox.Draft(x=["batch", 40])
    y = draft.linear(draft.binarize(draft["x"]), toolbox.weights(6, 40))
    model = toolbox.packed(draft.model(draft.batch_norm(y, toolbox.norm(6))))
    x = toolbox.adversarial((3, 40)).astype(np.float64)
    (expected,) = toolbox.evaluate(model, x=x)
    assert run(model).changes == 1
    assert toolbox.close(toolbox.evaluate(model, x=x)[0], expected)


def test_the_default_epsilon(toolbox: Any) -> None:
    draft = toolbox.Draft(x=["batch", 5, 6, 6])
    norm = draft.batch_norm(draft.conv(draft["x"], toolbox.weights(3, 5, 1, 1)), toolbox.norm(3))
    del norm.producer().attributes["epsilon"]
    model = toolbox.packed(draft.model(norm))
    x = np.random.default_rng(0).standard_normal(IMAGE)
    (expected,) = toolbox.evaluate(model, x=x)
    assert run(model).changes == 1
    assert toolbox.close(toolbox.evaluate(model, x=x)[0], expected)


def test_parameters_that_two_norms_share_stay_as_they_are(toolbox: Any) -> None:
    """Exporters keep one copy of equal tensors."""
    draft = toolbox.Draft(x=["batch", 5, 6, 6])
    parameters = toolbox.norm(5)
    shared = [draft.constant(f"shared{index}", array) for index, array in enumerate(parameters)]
    y = draft["x"]
    for name in ("first", "second"):
        y = draft.conv(draft.binarize(y, name), toolbox.weights(5, 5, 1, 1, seed=len(name)), name)
        y = draft.batch_norm(y, shared, f"{name}.bn")
    y = draft.batch_norm(draft.op("Relu", y), shared, "float.bn")
    model = toolbox.packed(draft.model(y))
    x = toolbox.adversarial(IMAGE).astype(np.float64)
    (expected,) = toolbox.evaluate(model, x=x)
    assert run(model).changes == 2
    assert toolbox.op_types(model).count("BatchNormalization") == 1
    for value, array in zip(shared, parameters, strict=True):
        assert toolbox.array(value).tolist() == array.tolist()
    assert toolbox.close(toolbox.evaluate(model, x=x)[0], expected)


def test_a_norm_after_something_else_is_none_of_its_business(toolbox: Any) -> None:
    draft = toolbox.Draft(x=["batch", 5, 6, 6])
    model = toolbox.packed(draft.model(draft.batch_norm(draft.op("Relu", draft["x"]), toolbox.norm(5))))
    result = run(model)
    assert (result.changes, result.declined) == (0, ())


class TestDeclined:
    def reason(self, toolbox: Any, model: ir.Model) -> str:
        reason = str(toolbox.declined(run, model, IMAGE).reason)
        assert "bn1" in reason
        return reason

    @pytest.fixture
    def draft(self, toolbox: Any) -> Any:
        return toolbox.Draft(x=["batch", 5, 6, 6])

    def layer(self, toolbox: Any, draft: Any) -> ir.Value:
        return draft.conv(draft.binarize(draft["x"]), toolbox.weights(3, 5, 3, 3), "layer1.0.conv")

    def test_the_output_is_read_elsewhere(self, toolbox: Any, draft: Any) -> None:
        y = self.layer(toolbox, draft)
        reason = self.reason(toolbox, draft.model(draft.batch_norm(y, toolbox.norm(3), "bn1"), draft.op("Relu", y)))
        assert "read elsewhere" in reason

    def test_the_output_is_one_of_the_network(self, toolbox: Any, draft: Any) -> None:
        y = self.layer(toolbox, draft)
        reason = self.reason(toolbox, draft.model(draft.batch_norm(y, toolbox.norm(3), "bn1"), y))
        assert "output of the network" in reason

    def test_training_mode(self, toolbox: Any, draft: Any) -> None:
        y = self.layer(toolbox, draft)
        norm = draft.batch_norm(y, toolbox.norm(3), "bn1", training_mode=1, num_outputs=3)
        reason = self.reason(toolbox, draft.model(norm))
        assert "model.eval()" in reason

    def test_parameters_that_depend_on_an_input(self, toolbox: Any, draft: Any) -> None:
        _, beta, mean, variance = toolbox.norm(3)
        dynamic = draft.op("ReduceMax", draft["x"], draft.constant("axes", np.array([0, 1, 2])), keepdims=0)
        three = draft.op("Slice", dynamic, *(draft.constant(n, np.array([v])) for n, v in (("from", 0), ("to", 3))))
        three = draft.op("Clip", three, draft.constant("low", np.float32(-9)), draft.constant("high", np.float32(9)))
        y = draft.batch_norm(self.layer(toolbox, draft), (three, beta, mean, variance), "bn1")
        assert "not constant" in self.reason(toolbox, draft.model(y))

    @pytest.mark.parametrize("variance", [0.0, -1.0, np.nan])
    def test_a_deviation_that_cannot_be_divided_by(self, toolbox: Any, draft: Any, variance: float) -> None:
        _, beta, mean, _ = toolbox.norm(3)
        parameters = (np.ones(3, np.float32), beta, mean, np.full(3, variance, np.float32))
        y = draft.batch_norm(self.layer(toolbox, draft), parameters, "bn1", epsilon=0.0)
        assert "not finite" in self.reason(toolbox, draft.model(y))
