"""All passes in a row, on a network that has something for each of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from bnn_deploy import opset
from bnn_deploy.errors import InputRefused
from bnn_deploy.passes import deploy_passes, run_float_passes, run_passes

IMAGE = (3, 9, 8)
CLASSES = 5
# ONNX Runtime computes what is not binary in float32, and float layers are sums of up to 27 products.
FLOAT32_NETWORK_TOLERANCE = 1e-5


def residual_network(toolbox: Any, levels: str = "bipolar", opset_version: int = 20) -> ir.Model:
    """[batch, 3, 9, 8] -> ([batch, 5], [batch, 6, 9, 8]).

    A float stem; a binary residual block with BatchNorm and a multiplication; a binary convolution that is called
    twice; one with float activations; a binarisation that a float op reads too; a flatten between a binarisation and
    a fully connected layer.
    """
    draft = toolbox.Draft(opset_version, x=["batch", *IMAGE])
    image = ["batch", 6, 9, 8]
    stem = draft.op(
        "Conv", draft["x"], draft.constant("stem.weight", toolbox.weights(6, 3, 3, 3)), pads=[1, 1, 1, 1], shape=image
    )
    norms = {name: toolbox.norm(6, seed) for seed, name in enumerate(("stem", "block", "twice", "wide"))}
    stem = draft.batch_norm(stem, norms["stem"], "stem.bn", shape=image)

    y = draft.conv(draft.binarize(stem, "block.conv", levels), toolbox.weights(6, 6, 3, 3), "block.conv", **SAME)
    y = draft.op("Mul", y, draft.constant("block.gain", np.full((1, 6, 1, 1), 1 / 3, np.float32)), shape=image)
    y = draft.batch_norm(y, norms["block"], "block.bn", shape=image)
    y = draft.op("Identity", draft.op("Add", y, stem, shape=image), shape=image)

    weight = draft.constant("twice.weight", toolbox.weights(6, 3, 3, 3))
    for _ in range(2):
        y = draft.conv(draft.binarize(y, "twice", levels), weight, "twice", group=2, pad_value=-1.0, **SAME)
        y = draft.op("Relu", draft.batch_norm(y, norms["twice"], f"twice.bn{_}", shape=image), shape=image)

    y = draft.conv(y, toolbox.weights(6, 6, 1, 1), "wide", shape=image)
    y = draft.batch_norm(y, norms["wide"], "wide.bn", shape=image)
    binarized = draft.binarize(y, "shared", levels)
    y = draft.conv(
        binarized, toolbox.weights(6, 6, 3, 3), "shared", bias=np.linspace(-1, 1, 6, dtype=np.float32), **SAME
    )
    features = draft.op("Add", y, draft.op("Relu", binarized, shape=image), shape=image)

    flat = draft.op("Flatten", draft.binarize(features, "fc", levels), axis=1, shape=["batch", 432])
    logits = draft.linear(flat, toolbox.weights(CLASSES, 432), "fc", bias=[0, 1, 2, 3, 4], shape=["batch", CLASSES])
    features.name, logits.name = "features", "logits"
    return draft.model(logits, features)


SAME = {"pads": [1, 1, 1, 1], "shape": ["batch", 6, 9, 8]}


def images(toolbox: Any, count: int = 2) -> NDArray[np.float32]:
    return toolbox.adversarial((count, *IMAGE), finite=True)


def content(model: ir.Model) -> tuple[list[bytes], ...]:
    """Nodes in order, initializers, functions."""
    proto = ir.to_proto(model)
    return (
        [node.SerializeToString(deterministic=True) for node in proto.graph.node],
        [tensor.SerializeToString(deterministic=True) for tensor in proto.graph.initializer],
        [function.SerializeToString(deterministic=True) for function in proto.functions],
    )


@pytest.fixture(params=["bipolar", "ternary"])
def levels(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_after_every_pass_the_graph_is_valid_and_computes_the_same(toolbox: Any, levels: str) -> None:
    model = residual_network(toolbox, levels)
    x = images(toolbox).astype(np.float64)
    expected = toolbox.evaluate(model, x=x)
    for step in deploy_passes():
        step(model)
        onnx.checker.check_model(ir.to_proto(model), full_check=True)
        for found, wanted in zip(toolbox.evaluate(model, x=x), expected, strict=True):
            assert toolbox.close(found, wanted), type(step).__name__


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("optimise", [True, False])
def test_stock_onnxruntime_runs_what_comes_out(toolbox: Any, levels: str, batch: int, optimise: bool) -> None:
    model = residual_network(toolbox, levels)
    x = images(toolbox, batch)
    expected = toolbox.evaluate(model, x=x.astype(np.float64))
    run_passes(model)
    for found, wanted in zip(toolbox.run_in_onnxruntime(model, {"x": x}, optimise=optimise), expected, strict=True):
        assert toolbox.close(found, wanted, tolerance=FLOAT32_NETWORK_TOLERANCE)


def test_only_deploy_ops_and_standard_ops_are_left(toolbox: Any, levels: str) -> None:
    model = residual_network(toolbox, levels)
    run_passes(model)
    ours = [node for node in model.graph if node.domain == opset.DOMAIN]
    assert not {node.op_type for node in ours} & set(opset.TRAINING_OPS)
    assert {node.domain for node in model.graph} == {"", opset.DOMAIN}
    layers = {node.name: node.op_type for node in ours if node.op_type in opset.WEIGHT_OPS}
    assert set(layers) == {"block.conv", "twice", "twice#2", "wide", "shared", "fc"}
    assert layers.pop("wide") == "BinaryWeightConv2d"
    assert all(op_type.startswith("Packed") for op_type in layers.values())
    # what the second call of `twice` reads comes from a ReLU: two levels, however it is binarised
    ternary = {name for name, op_type in layers.items() if "Ternary" in op_type}
    assert ternary == ({"block.conv", "twice", "shared", "fc"} if levels == "ternary" else set())
    left = toolbox.op_types(model)
    assert left.count("BatchNormalization") == 1, "that of the float stem"
    assert not {"Mul", "Identity"} & set(left)


def test_names_are_unique_and_outputs_keep_theirs(toolbox: Any, levels: str) -> None:
    model = residual_network(toolbox, levels)
    run_passes(model)
    assert [value.name for value in model.graph.inputs] == ["x"]
    assert [value.name for value in model.graph.outputs] == ["logits", "features"]
    nodes = [node.name for node in model.graph]
    values = [value.name for node in model.graph for value in node.outputs] + list(model.graph.initializers)
    assert len(set(nodes)) == len(nodes)
    assert len(set(values)) == len(values)
    assert model.graph.outputs[0].shape == ir.Shape(["batch", CLASSES])


def test_a_second_run_changes_nothing(toolbox: Any, levels: str) -> None:
    model = residual_network(toolbox, levels)
    run_passes(model)
    once = content(model)
    run_passes(model)
    assert content(model) == once


def test_nor_does_one_on_the_file(toolbox: Any, levels: str) -> None:
    model = residual_network(toolbox, levels)
    run_passes(model)
    loaded = toolbox.copy(model)
    once = content(loaded)
    run_passes(loaded)
    assert content(loaded) == once


def test_bodies_of_the_ops_in_use_and_no_others(toolbox: Any) -> None:
    model = residual_network(toolbox)
    run_passes(model)
    used = {node.op_type for node in model.graph if node.domain == opset.DOMAIN}
    assert used >= {"PackedLinear", "BinaryWeightConv2d"}
    assert {function.name for function in ir.to_proto(model).functions} == used


def test_a_weight_takes_one_bit(toolbox: Any) -> None:
    """[64, 64, 3, 3]: 147 456 bytes as float32, 4 608 as bits; latent weights and folded norms are gone."""
    draft = toolbox.Draft(x=["batch", 64, 8, 8])
    y = draft.conv(draft.binarize(draft["x"]), toolbox.weights(64, 64, 3, 3))
    model = draft.model(draft.batch_norm(y, toolbox.norm(64), shape=["batch", 64, 6, 6]))
    twin = toolbox.copy(model)
    run_passes(model)
    run_float_passes(twin)
    tensors = {name: toolbox.array(value) for name, value in model.graph.initializers.items()}
    assert {name: (array.dtype.name, array.nbytes) for name, array in tensors.items()} == {
        "conv.weight_bits": ("int32", 64 * 64 * 9 // 8),
        "conv.scale": ("float32", 256),
        "conv.bias": ("float32", 256),
        "act/Binarize.threshold": ("float32", 4),
    }
    size, float_size = (len(ir.to_proto(each).SerializeToString()) for each in (model, twin))
    assert size < float_size / 10


def test_records_say_what_each_pass_did_and_what_it_declined(toolbox: Any) -> None:
    model = residual_network(toolbox)
    records = run_passes(model)
    assert [record.name for record in records] == [type(step).__name__ for step in deploy_passes()]
    changes = [(record.name, record.changes) for record in records]
    assert ("PackWeightsPass", 6) in changes
    assert ("PackActivationsPass", 5) in changes
    assert ("HoistReshapesPass", 1) in changes
    assert ("FoldAffinePass", 5) in changes
    assert ("LowerBinarizePass", 1) in changes
    declined = {declined.layer: declined.reason for record in records for declined in record.declined}
    assert set(declined) == {"wide", "shared/Binarize"}
    assert "not binarised" in declined["wide"]
    assert "Relu" in declined["shared/Binarize"]


@pytest.mark.parametrize("levels", ["bipolar", "unipolar", "ternary"])
def test_integers_are_equal_whatever_goes_in(toolbox: Any, levels: str) -> None:
    """Two layers, scale 1, no bias: ties at 0 between them; both zeros, denormals, NaN and infinities in front."""
    draft = toolbox.Draft(x=["batch", 35, 6, 5])
    y = draft.conv(
        draft.binarize(draft["x"], "a", levels), toolbox.weights(34, 35, 3, 3), "a", weight_scale="none", pads=[1] * 4
    )
    y = draft.conv(draft.binarize(y, "b", levels), toolbox.weights(33, 34, 3, 3), "b", weight_scale="none")
    model = draft.model(y)
    y.shape = ir.Shape(["batch", 33, 4, 3])
    x = toolbox.adversarial((2, 35, 6, 5))
    (expected,) = toolbox.evaluate(model, x=x)
    run_passes(model)
    assert all(op_type.startswith("Pack") for op_type in toolbox.op_types(model))
    assert (toolbox.evaluate(model, x=x)[0] == expected).all()
    for optimise in (True, False):
        assert (toolbox.run_in_onnxruntime(model, {"x": x}, optimise=optimise)[0] == expected).all()


@pytest.mark.parametrize("lead", [(3,), (2, 5)])
def test_a_fully_connected_layer_on_more_axes_is_binary_too(toolbox: Any, lead: tuple[int, ...]) -> None:
    draft = toolbox.Draft(x=["batch", *lead, 40])
    y = draft.linear(draft.binarize(draft["x"], "fc"), toolbox.weights(4, 40), weight_scale="none")
    y.shape = ir.Shape(["batch", *lead, 4])
    model = draft.model(y)
    x = toolbox.adversarial((2, *lead, 40))
    (expected,) = toolbox.evaluate(model, x=x)
    run_passes(model)
    assert "PackedLinear" in toolbox.op_types(model)
    assert "Where" not in toolbox.op_types(model)
    (found,) = toolbox.run_in_onnxruntime(model, {"x": x})
    assert (found == expected).all()


def test_a_binarisation_of_the_input_that_is_an_output_too(toolbox: Any) -> None:
    draft = toolbox.Draft(x=["batch", 3, 4, 4])
    binarized = draft.binarize(draft["x"], "conv")
    conv = draft.conv(binarized, toolbox.weights(2, 3, 1, 1), weight_scale="none", shape=["batch", 2, 4, 4])
    model = draft.model(binarized, conv)
    x = toolbox.adversarial((2, 3, 4, 4))
    expected = toolbox.evaluate(model, x=x)
    run_passes(model)
    for found, wanted in zip(toolbox.run_in_onnxruntime(model, {"x": x}), expected, strict=True):
        assert (found == wanted).all()


@pytest.mark.parametrize("version", [13, 19])
def test_an_older_opset_is_refused(toolbox: Any, version: int) -> None:
    with pytest.raises(InputRefused, match=rf"ONNX opset {version}; wanted: opset 20 or later"):
        run_passes(residual_network(toolbox, opset_version=version))


def test_a_later_opset_is_fine(toolbox: Any) -> None:
    model = residual_network(toolbox, opset_version=22)
    x = images(toolbox)
    expected = toolbox.evaluate(model, x=x.astype(np.float64))
    run_passes(model)
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    for found, wanted in zip(toolbox.run_in_onnxruntime(model, {"x": x}), expected, strict=True):
        assert toolbox.close(found, wanted, tolerance=FLOAT32_NETWORK_TOLERANCE)


def test_a_layer_that_cannot_be_packed_stops_the_run_by_name(toolbox: Any) -> None:
    draft = toolbox.Draft(x=["batch", 3, 4, 4])
    weights = toolbox.weights(2, 3, 1, 1)
    weights[0, 0] = np.nan
    with pytest.raises(InputRefused, match=r"layer1\.0\.conv: 1 of 6 weights are NaN or infinite"):
        run_passes(draft.model(draft.conv(draft.binarize(draft["x"]), weights, "layer1.0.conv")))


class TestFloatTwin:
    def test_holds_standard_ops_only(self, toolbox: Any, levels: str) -> None:
        model = residual_network(toolbox, levels)
        run_float_passes(model)
        assert {node.domain for node in model.graph} == {""}
        proto = ir.to_proto(model)
        assert not proto.functions
        onnx.checker.check_model(proto, full_check=True)

    def test_computes_the_same(self, toolbox: Any, levels: str) -> None:
        model = residual_network(toolbox, levels)
        x = images(toolbox)
        expected = toolbox.evaluate(model, x=x.astype(np.float64))
        run_float_passes(model)
        for found, wanted in zip(toolbox.evaluate(model, x=x.astype(np.float64)), expected, strict=True):
            assert toolbox.close(found, wanted)
        for found, wanted in zip(toolbox.run_in_onnxruntime(model, {"x": x}), expected, strict=True):
            assert toolbox.close(found, wanted, tolerance=FLOAT32_NETWORK_TOLERANCE)

    def test_has_a_float_layer_of_the_same_name_for_each_binary_one(self, toolbox: Any) -> None:
        model = residual_network(toolbox)
        run_float_passes(model)
        layers = {node.name: node.op_type for node in model.graph if node.op_type in ("Conv", "MatMul")}
        assert layers == {
            "stem": "Conv",
            "block.conv": "Conv",
            "twice": "Conv",
            "twice#2": "Conv",
            "wide": "Conv",
            "shared": "Conv",
            "fc": "MatMul",
        }
        assert "twice.weight" not in model.graph.initializers, "latent weights are gone"

    def test_a_second_run_changes_nothing(self, toolbox: Any) -> None:
        model = residual_network(toolbox)
        run_float_passes(model)
        once = content(model)
        run_float_passes(model)
        assert content(model) == once
