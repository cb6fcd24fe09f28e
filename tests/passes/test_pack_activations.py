"""Binarised activations are packed for the layers that read them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from bnn_deploy.passes.base import PassResult
from bnn_deploy.passes.name_layers import NameLayersPass
from bnn_deploy.passes.pack_activations import PackActivationsPass
from bnn_deploy.passes.pack_weights import PackWeightsPass


def run(model: ir.Model) -> PassResult:
    """The passes before it, then the pass, in place."""
    NameLayersPass()(model)
    PackWeightsPass()(model)
    result = PackActivationsPass()(model)
    assert isinstance(result, PassResult)
    return result


@pytest.mark.parametrize(
    ("levels", "pack", "suffix", "low", "words"),
    [
        ("bipolar", "PackBipolar", "", -1.0, 2),
        ("unipolar", "PackUnipolar", "", 0.0, 2),
        ("ternary", "PackTernary", "Ternary", None, 4),
    ],
)
@pytest.mark.parametrize("kind", ["Conv2d", "Linear"])
def test_levels_choose_the_ops(
    toolbox: Any, levels: str, pack: str, suffix: str, low: float | None, words: int, kind: str
) -> None:
    image = (5, 4) if kind == "Conv2d" else ()
    draft = toolbox.Draft(x=["batch", 33, *image])
    binarized = draft.binarize(draft["x"], "layer", levels)
    weights = toolbox.weights(4, 33, *[3 for _ in image])
    make = draft.conv if image else draft.linear
    # Scale 1, so that all numbers are integers and halves and a rounding cannot show.
    model = draft.model(make(binarized, weights, "layer", bias=[1, -1, 0, 0.5], weight_scale="none"))
    x = toolbox.adversarial((3, 33, *image))
    (expected,) = toolbox.evaluate(model, x=x)
    result = run(model)
    assert (result.changes, result.declined) == (1, ())
    (packed,) = [node for node in model.graph if node.op_type == pack]
    layer = toolbox.node(model, "layer")
    assert packed.name == "layer/Binarize"
    assert layer.op_type == f"Packed{suffix}{kind}"
    assert "low" not in layer.attributes if low is None else layer.attributes["low"].as_float() == low
    assert layer.attributes["channels"].as_int() == packed.attributes["channels"].as_int() == 33
    assert packed.outputs[0].dtype == ir.DataType.INT32
    assert packed.outputs[0].shape == ir.Shape(["batch", *image, words])
    (found,) = toolbox.evaluate(model, x=x)
    assert (found == expected).all()


def test_threshold_is_0(toolbox: Any) -> None:
    draft = toolbox.Draft(x=["batch", 3, 4, 4])
    model = draft.model(draft.conv(draft.binarize(draft["x"]), toolbox.weights(2, 3, 1, 1)))
    run(model)
    (pack,) = [node for node in model.graph if node.op_type == "PackBipolar"]
    threshold = toolbox.array(pack.inputs[1])
    assert (threshold.tolist(), threshold.dtype) == ([0.0], np.float32)


def test_convolution_keeps_its_geometry(toolbox: Any) -> None:
    geometry = {"strides": [2, 1], "pads": [1, 0, 2, 1], "dilations": [1, 2], "group": 3, "pad_value": 1.0}
    draft = toolbox.Draft(x=["batch", 6, 8, 7])
    y = draft.conv(draft.binarize(draft["x"]), toolbox.weights(3, 2, 3, 2), weight_scale="none", **geometry)
    model = draft.model(y)
    x = toolbox.adversarial((2, 6, 8, 7))
    (expected,) = toolbox.evaluate(model, x=x)
    run(model)
    kept = {name: toolbox.node(model, "conv").attributes[name].value for name in geometry}
    assert kept == {name: tuple(value) if isinstance(value, list) else value for name, value in geometry.items()}
    assert (toolbox.evaluate(model, x=x)[0] == expected).all()


def test_one_pack_serves_all_the_layers_that_read_it(toolbox: Any) -> None:
    draft = toolbox.Draft(x=["batch", 3, 6, 6])
    shared = draft.binarize(draft["x"])
    ends = [draft.conv(shared, toolbox.weights(2, 3, k, k, seed=k), f"conv{k}", weight_scale="none") for k in (1, 3)]
    model = draft.model(*ends)
    x = toolbox.adversarial((2, 3, 6, 6))
    expected = toolbox.evaluate(model, x=x)
    assert run(model).changes == 2
    assert toolbox.op_types(model).count("PackBipolar") == 1
    for found, wanted in zip(toolbox.evaluate(model, x=x), expected, strict=True):
        assert (found == wanted).all()


def test_other_readers_go_on_reading_levels(toolbox: Any) -> None:
    draft = toolbox.Draft(x=["batch", 3, 6, 6])
    binarized = draft.binarize(draft["x"])
    conv = draft.conv(binarized, toolbox.weights(3, 3, 1, 1), weight_scale="none")
    total = draft.op("Add", conv, binarized)
    model = draft.model(total, binarized)
    x = toolbox.adversarial((2, 3, 6, 6))
    expected = toolbox.evaluate(model, x=x)
    run(model)
    assert "Binarize" in toolbox.op_types(model)
    assert "PackedConv2d" in toolbox.op_types(model)
    for found, wanted in zip(toolbox.evaluate(model, x=x), expected, strict=True):
        assert (found == wanted).all()


def test_a_layer_with_a_float_input_is_declined_by_name(toolbox: Any) -> None:
    draft = toolbox.Draft(x=["batch", 3, 6, 6])
    y = draft.conv(draft["x"], toolbox.weights(3, 3, 1, 1), "features.0")
    model = draft.model(draft.conv(draft.binarize(y), toolbox.weights(3, 3, 1, 1), "features.1"))
    result = run(model)
    assert [declined.layer for declined in result.declined] == ["features.0"]
    assert "not binarised" in result.declined[0].reason
    assert toolbox.node(model, "features.0").op_type == "BinaryWeightConv2d"
    assert toolbox.node(model, "features.1").op_type == "PackedConv2d"


def test_a_binarisation_that_no_layer_reads_is_left_alone(toolbox: Any) -> None:
    draft = toolbox.Draft(x=["batch", 3])
    model = draft.model(draft.op("Neg", draft.binarize(draft["x"])))
    result = run(model)
    assert (result.changes, result.modified, result.declined) == (0, False, ())
    assert toolbox.op_types(model) == ["Binarize", "Neg"]


def test_an_unknown_shape_stays_unknown(toolbox: Any) -> None:
    draft = toolbox.Draft(x=["batch", 3, 4, 4])
    draft["x"].shape = None
    model = draft.model(draft.conv(draft.binarize(draft["x"], shape=None), toolbox.weights(2, 3, 1, 1)))
    run(model)
    (pack,) = [node for node in model.graph if node.op_type == "PackBipolar"]
    assert pack.outputs[0].shape is None
