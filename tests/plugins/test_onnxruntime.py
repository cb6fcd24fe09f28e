"""The native library inside ONNX Runtime: preferred over the function bodies, equal to them, and never a crash."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from bnn_deploy import opset
from bnn_deploy.bits import Levels, pack_bits, pack_levels
from bnn_deploy.errors import InputRefused
from bnn_deploy.functions import function_body
from bnn_deploy.native import KERNELS_VARIABLE
from bnn_deploy.runners.native_cpu import NativeCpuRunner
from bnn_deploy.runners.onnxruntime import OnnxRuntimeRunner
from bnn_deploy.runners.reference import ReferenceRunner

ELEMENT = {np.dtype(dtype): helper.np_dtype_to_tensor_dtype(np.dtype(dtype)) for dtype in ("f2", "f4", "f8", "i4")}
CONV = {"strides": [1, 1], "pads": [1, 1, 1, 1], "dilations": [1, 1], "group": 1, "pad_value": 0.0}

pytestmark = pytest.mark.usefixtures("native")


def model_of(
    op: str, inputs: dict[str, Any], attributes: dict[str, Any], outputs: int = 1, *, constants: tuple[str, ...] = ()
) -> onnx.ModelProto:
    """One node named `layer`, with its function body if it has one; `constants` names those inputs that are."""
    node = helper.make_node(op, list(inputs), ["y", "bits"][:outputs], "layer", domain=opset.DOMAIN, **attributes)
    graph = helper.make_graph(
        [node],
        "one",
        [
            helper.make_tensor_value_info(name, ELEMENT[array.dtype], [None] * array.ndim)
            for name, array in inputs.items()
            if name not in constants
        ],
        [onnx.ValueInfoProto(name=name) for name in ("y", "bits")[:outputs]],
        [numpy_helper.from_array(inputs[name], name) for name in constants],
    )
    domains = [helper.make_opsetid("", opset.ONNX_OPSET), helper.make_opsetid(opset.DOMAIN, opset.VERSION)]
    model = helper.make_model(graph, opset_imports=domains, ir_version=9)
    if op in (*opset.DEPLOY_OPS, *opset.FUSED_CONV_OPS, *opset.FLOAT16_OPS.values()):
        model.functions.append(function_body(op))
    return model


def feeds_of(inputs: dict[str, Any], constants: tuple[str, ...]) -> dict[str, Any]:
    return {name: array for name, array in inputs.items() if name not in constants}


def conv_inputs(generator: Any, toolbox: Any, levels: Levels, n: int = 2, c: int = 40, o: int = 37) -> dict[str, Any]:
    """The operands of a 3x3 convolution on 9x7 pixels."""
    x = toolbox.levels(generator, levels, (n, 9, 7, c))
    weight = toolbox.levels(generator, Levels.BIPOLAR, (o, 3, 3, c))
    scale, bias = generator.standard_normal((2, o)).astype(np.float32)
    return {"packed": pack_levels(x, levels), "weight": pack_bits(weight > 0), "scale": scale, "bias": bias}


def low_of(levels: Levels) -> dict[str, float]:
    return {} if levels is Levels.TERNARY else {"low": -1.0 if levels is Levels.BIPOLAR else 0.0}


@pytest.mark.parametrize("constants", [(), ("weight", "scale", "bias")])
@pytest.mark.parametrize("levels", list(Levels))
def test_conv_equals_its_function_body(
    toolbox: Any, kernels: str, levels: Levels, constants: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KERNELS_VARIABLE, kernels)
    inputs = conv_inputs(np.random.default_rng(0), toolbox, levels)
    op = opset.PACKED_TERNARY_CONV2D if levels is Levels.TERNARY else opset.PACKED_CONV2D
    model = model_of(op, inputs, CONV | {"channels": 40} | low_of(levels), constants=constants)
    feeds = feeds_of(inputs, constants)
    found, body = NativeCpuRunner(model, threads=2).infer(feeds), OnnxRuntimeRunner(model).infer(feeds)
    assert np.array_equal(found["y"], body["y"])


@pytest.mark.parametrize("levels", list(Levels))
def test_linear_equals_its_function_body(
    toolbox: Any, kernels: str, levels: Levels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KERNELS_VARIABLE, kernels)
    generator = np.random.default_rng(1)
    x = toolbox.levels(generator, levels, (3, 70))
    weight = toolbox.levels(generator, Levels.BIPOLAR, (150, 70))
    scale, bias = generator.standard_normal((2, 150)).astype(np.float32)
    inputs = {"packed": pack_levels(x, levels), "weight": pack_bits(weight > 0), "scale": scale, "bias": bias}
    op = opset.PACKED_TERNARY_LINEAR if levels is Levels.TERNARY else opset.PACKED_LINEAR
    model = model_of(op, inputs, {"channels": 70} | low_of(levels), constants=("weight",))
    feeds = feeds_of(inputs, ("weight",))
    assert np.array_equal(NativeCpuRunner(model).infer(feeds)["y"], OnnxRuntimeRunner(model).infer(feeds)["y"])


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("op", [*opset.PACK_OPS.values()])
@pytest.mark.parametrize("shape", [(2, 40), (2, 40, 5), (1, 33, 4, 6), (0, 8, 3, 3)])
def test_pack_equals_its_function_body(op: str, shape: tuple[int, ...], dtype: Any) -> None:
    generator = np.random.default_rng(2)
    x = generator.standard_normal(shape).astype(dtype)
    x[generator.random(shape) < 0.3] = np.nan
    x[generator.random(shape) < 0.3] = -0.0
    inputs = {"x": x} if op == opset.PACK_TERNARY else {"x": x, "threshold": np.zeros(1, np.float32)}
    model = model_of(op, inputs, {"channels": shape[1]})
    found = NativeCpuRunner(model).infer(inputs)["y"]
    if x.size:  # the body reshapes, which an empty tensor does not allow
        assert np.array_equal(found, OnnxRuntimeRunner(model).infer(inputs)["y"])
    else:
        assert found.shape == (0, 3, 3, 2 if op == opset.PACK_TERNARY else 1)


def fused_inputs(toolbox: Any, epilogue: opset.Epilogue) -> tuple[dict[str, Any], dict[str, Any]]:
    """The inputs of a member of the family, in order, and its attributes."""
    generator = np.random.default_rng(3)
    inputs = conv_inputs(generator, toolbox, Levels.BIPOLAR)
    outputs = inputs["scale"].size
    middle = {"lower": -3.0, "upper": 3.0}
    for name in epilogue.operands:
        shape = (2, outputs, 9, 7) if name == "residual" else (outputs,)
        inputs[name] = (generator.standard_normal(shape) + middle.get(name, 0.0)).astype(np.float32)
    attributes = CONV | {"channels": 40, "low": -1.0}
    if epilogue.activation == opset.CLIP:
        attributes |= {"clip_low": -3.0, "clip_high": 2.5}
    return inputs, attributes


def expected_fused(inputs: dict[str, Any], attributes: dict[str, Any], plain: Any) -> list[Any]:
    """What follows the plain convolution, in NumPy float32."""
    z = plain
    per_channel = {name: array.reshape(-1, 1, 1) for name, array in inputs.items() if array.ndim == 1}
    if "residual" in inputs:
        z = z + inputs["residual"]
    if "slope" in inputs:
        z = np.where(z >= 0, z, per_channel["slope"] * z) + per_channel["shift"]
    if "clip_low" in attributes:
        z = np.clip(z, np.float32(attributes["clip_low"]), np.float32(attributes["clip_high"]))
    if "lower" not in inputs:
        return [z]
    return [z, pack_bits(np.moveaxis((per_channel["lower"] <= z) & (z <= per_channel["upper"]), 1, -1))]


@pytest.mark.parametrize("op", list(opset.EPILOGUES))
def test_every_epilogue(toolbox: Any, op: str) -> None:
    epilogue = opset.EPILOGUES[op]
    inputs, attributes = fused_inputs(toolbox, epilogue)
    base = {name: inputs[name] for name in ("packed", "weight", "scale", "bias")}
    base_attributes = {name: value for name, value in attributes.items() if not name.startswith("clip")}
    plain = NativeCpuRunner(model_of(opset.PACKED_CONV2D, base, base_attributes)).infer(base)["y"]
    runner = NativeCpuRunner(model_of(op, inputs, attributes, 2 if epilogue.packs else 1), threads=2)
    found = [runner.infer(inputs)[name] for name in runner.outputs]
    expected = expected_fused(inputs, attributes, plain)
    assert len(found) == len(expected)
    assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))


NATIVE_FLOAT16 = tuple(op for op in opset.FLOAT16_OPS if not op.startswith("BinaryWeight"))


def float16_case(toolbox: Any, op: str, seed: int, exponent: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Operands of few bits on a common grid, 2**exponent, so that float32 and float64 steps are the same numbers."""
    generator = np.random.default_rng(seed)
    ternary, linear = "Ternary" in op, op in opset.LINEAR_OPS
    levels = Levels.TERNARY if ternary else Levels.BIPOLAR
    channels, outputs = int(generator.integers(1, 70)), int(generator.integers(1, 40))
    epilogue = opset.EPILOGUES.get(op, opset.Epilogue())
    if linear:
        x = toolbox.levels(generator, levels, (3, channels))
        weight = toolbox.levels(generator, Levels.BIPOLAR, (outputs, channels))
        inputs = {"packed": pack_levels(x, levels), "weight": pack_bits(weight > 0)}
    else:
        inputs = conv_inputs(generator, toolbox, levels, c=channels, o=outputs)
    for name in ("scale", "bias", *epilogue.operands):
        shape = (2, outputs, 9, 7) if name == "residual" else (outputs,)
        values = generator.integers(-9, 10, shape) * 2.0**exponent
        if name == "slope":
            values = generator.choice(np.array([-0.5, 0.0, 0.25, 2.0]), shape)
        if name in ("bias", "residual"):
            edges = generator.choice(np.array([np.nan, np.inf, -np.inf, -0.0]), shape)
            values = np.where(generator.random(shape) < 0.1, edges, values)
        with np.errstate(over="ignore"):
            inputs[name] = values.astype(np.float16 if name == "residual" else np.float32)
    attributes: dict[str, Any] = {"channels": channels} | low_of(levels) | ({} if linear else CONV)
    if epilogue.activation == opset.CLIP:
        attributes |= {"clip_low": -3 * 2.0**exponent, "clip_high": 40 * 2.0**exponent}
    return inputs, attributes


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(op=st.sampled_from(NATIVE_FLOAT16), seed=st.integers(0, 2**32 - 1), exponent=st.sampled_from((-30, -24, -3, 9)))
def test_float16_equals_its_function_body_and_the_evaluator(toolbox: Any, op: str, seed: int, exponent: int) -> None:
    """Sums from subnormal to infinite, NaN and both zeros in bias and residual: the same y and the same bits."""
    inputs, attributes = float16_case(toolbox, op, seed, exponent)
    outputs = 2 if opset.EPILOGUES.get(op, opset.Epilogue()).packs else 1
    model = model_of(opset.FLOAT16_OPS[op], inputs, attributes, outputs, constants=("weight",))
    feeds = feeds_of(inputs, ("weight",))
    found = NativeCpuRunner(model, threads=2).infer(feeds)
    assert found["y"].dtype == np.float16
    with np.errstate(invalid="ignore"):
        others = (OnnxRuntimeRunner(model), OnnxRuntimeRunner(model, optimise=False), ReferenceRunner(model))
        for other in others:
            expected = other.infer(feeds)
            assert np.array_equal(found["y"], expected["y"], equal_nan=True)
            number = ~np.isnan(found["y"])
            assert np.array_equal(np.signbit(found["y"][number]), np.signbit(expected["y"][number]))
            assert outputs == 1 or np.array_equal(found["bits"], expected["bits"])


@pytest.mark.parametrize(
    ("op", "name", "dtype"),
    [
        (opset.PACK_BIPOLAR, "x", np.float64),
        (opset.PACK_BIPOLAR, "threshold", np.float16),
        ("PackedConv2dAdd", "residual", np.float16),
        ("PackedConv2dAddFp16", "residual", np.float32),
        ("PackedConv2dFp16", "scale", np.float16),
    ],
)
def test_wrong_type_names_the_node_and_the_type(refusal: Any, toolbox: Any, op: str, name: str, dtype: Any) -> None:
    if op == opset.PACK_BIPOLAR:
        inputs = {"x": np.zeros((1, 33, 2, 2), np.float32), "threshold": np.zeros(1, np.float32)}
        attributes: dict[str, Any] = {"channels": 33}
    else:
        inputs, attributes = float16_case(toolbox, opset.float32_op(op), 0, -3)
    inputs[name] = inputs[name].astype(dtype)
    said = refusal(lambda: NativeCpuRunner(model_of(op, inputs, attributes)))
    assert "layer" in said and op in said
    assert {np.float16: "float16", np.float32: "float", np.float64: "double"}[dtype] in said


@pytest.mark.parametrize("op", opset.BITS_OPS)
def test_bits_of_the_accumulator(toolbox: Any, op: str) -> None:
    generator = np.random.default_rng(11)
    lower, upper = generator.integers(-30, 30, (2, 37)).astype(np.int32)
    if op == opset.PACKED_CONV2D_BITS:
        inputs, attributes, layer = conv_inputs(generator, toolbox, Levels.BIPOLAR), dict(CONV), opset.PACKED_CONV2D
    else:
        x = toolbox.levels(generator, Levels.BIPOLAR, (3, 40))
        weight = toolbox.levels(generator, Levels.BIPOLAR, (37, 40))
        inputs, attributes, layer = (
            {"packed": pack_bits(x > 0), "weight": pack_bits(weight > 0)},
            {},
            opset.PACKED_LINEAR,
        )
    inputs |= {"scale": np.ones(37, np.float32), "bias": np.zeros(37, np.float32)}
    attributes |= {"channels": 40, "low": -1.0}
    sums = np.moveaxis(NativeCpuRunner(model_of(layer, inputs, attributes)).infer(inputs)["y"], 1, -1)
    bounded = {name: inputs[name] for name in ("packed", "weight")} | {"lower": lower, "upper": upper}
    found = NativeCpuRunner(model_of(op, bounded, attributes)).infer(bounded)["y"]
    assert np.array_equal(found, pack_bits((lower <= sums) & (sums <= upper)))


def test_pack_interval() -> None:
    generator = np.random.default_rng(12)
    x = generator.standard_normal((2, 40, 3, 5)).astype(np.float32)
    x[0, :, 0, 0] = np.nan
    bound = generator.standard_normal((40,)).astype(np.float32)
    inputs = {"x": x, "lower": bound, "upper": np.full(1, 0.75, np.float32)}
    found = NativeCpuRunner(model_of(opset.PACK_INTERVAL, inputs, {"channels": 40})).infer(inputs)["y"]
    inside = (bound[:, None, None] <= x) & (x <= np.float32(0.75))
    assert np.array_equal(found, pack_bits(np.moveaxis(inside, 1, -1)))


def test_max_pool_takes_the_greater_level() -> None:
    generator = np.random.default_rng(4)
    bits = generator.random((2, 7, 6, 40)) < 0.5
    flipped = generator.random(40) < 0.5  # channels where bit 0 is the greater value
    inputs = {"packed": pack_bits(bits), "flip": pack_bits(flipped)}
    attributes = {"channels": 40, "kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}
    found = NativeCpuRunner(model_of(opset.PACKED_MAX_POOL2D, inputs, attributes)).infer(inputs)["y"]
    framed = np.pad(bits ^ flipped, ((0, 0), (1, 1), (0, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(framed, (3, 2), (1, 2))[:, ::2]
    assert np.array_equal(found, pack_bits(windows.any(axis=(-2, -1)) ^ flipped))


@pytest.mark.parametrize("read_later", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_y_may_take_the_memory_of_the_residual(toolbox: Any, dtype: Any, read_later: bool) -> None:
    """Two layers, one residual behind the other: the same result as of the bodies, and a residual that is read again
    stays what it was."""
    generator = np.random.default_rng(11)
    inputs = conv_inputs(generator, toolbox, Levels.BIPOLAR, c=37)
    inputs["residual"] = generator.standard_normal((2, 37, 9, 7)).astype(dtype)
    op = opset.PACKED_CONV2D + "Add"
    op = opset.FLOAT16_OPS[op] if dtype is np.float16 else op
    constants = ("weight", "scale", "bias")
    model = model_of(op, inputs, CONV | {"channels": 37, "low": -1.0}, constants=constants)
    graph = model.graph
    (first,) = graph.node
    second = helper.make_node(op, list(first.input), ["y2"], "second", domain=opset.DOMAIN)
    second.attribute.extend(first.attribute)
    first.input[4], second.input[4] = "made", "y"  # not an input of the graph, whose memory is the caller's
    graph.node.insert(0, helper.make_node("Neg", ["residual"], ["made"]))
    graph.node.append(second)
    if read_later:
        graph.node.append(helper.make_node("Sum", ["made", "y", "y2"], ["all"]))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("all" if read_later else "y2", ELEMENT[np.dtype(dtype)], None))
    for name in ("made", "y"):
        shape = inputs["residual"].shape
        graph.value_info.append(helper.make_tensor_value_info(name, ELEMENT[np.dtype(dtype)], shape))
    feeds = feeds_of(inputs, constants)
    (found,), (body,) = (runner(model).infer(feeds).values() for runner in (NativeCpuRunner, OnnxRuntimeRunner))
    assert np.array_equal(found, body)


def profile_ops(model: onnx.ModelProto, feeds: dict[str, Any], library: Path | None, folder: Path) -> set[str]:
    """The operators that ONNX Runtime says it ran."""
    options = onnxruntime.SessionOptions()
    options.enable_profiling, options.profile_file_prefix = True, str(folder / "profile")
    if library:
        options.register_custom_ops_library(str(library))
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    session.run(None, feeds)
    events = json.loads(Path(session.end_profiling()).read_text("utf-8"))
    return {event["args"]["op_name"] for event in events if "op_name" in event.get("args", {})}


def test_kernel_is_preferred_and_body_is_used_without_it(native: Any, toolbox: Any, tmp_path: Path) -> None:
    inputs = conv_inputs(np.random.default_rng(5), toolbox, Levels.BIPOLAR)
    model = model_of(opset.PACKED_CONV2D, inputs, CONV | {"channels": 40, "low": -1.0})
    assert profile_ops(model, inputs, native.path, tmp_path) == {opset.PACKED_CONV2D}
    without = profile_ops(model, inputs, None, tmp_path)
    assert "Conv" in " ".join(without) and opset.PACKED_CONV2D not in without


def test_ops_without_a_kernel_run_on_their_body_beside_the_library() -> None:
    generator = np.random.default_rng(6)
    inputs = {
        "x": generator.standard_normal((2, 33)).astype(np.float32),
        "weight": pack_bits(generator.random((5, 33)) < 0.5),
        "scale": np.ones(5, np.float32),
        "bias": np.zeros(5, np.float32),
    }
    model = model_of(opset.BINARY_WEIGHT_LINEAR, inputs, {"channels": 33})
    assert np.array_equal(NativeCpuRunner(model).infer(inputs)["y"], OnnxRuntimeRunner(model).infer(inputs)["y"])


def test_concurrent_runs_of_one_session(toolbox: Any) -> None:
    """Different sizes at the same time, so that the cache of border tables is replaced under the readers."""
    generator = np.random.default_rng(7)
    inputs = conv_inputs(generator, toolbox, Levels.BIPOLAR)
    constants = ("weight", "scale", "bias")
    runner = NativeCpuRunner(
        model_of(opset.PACKED_CONV2D, inputs, CONV | {"channels": 40, "low": -1.0}, constants=constants), threads=2
    )
    images = [
        pack_levels(toolbox.levels(generator, Levels.BIPOLAR, (1, size, size + 1, 40)), Levels.BIPOLAR)
        for size in (5, 8, 13, 16)
    ]
    expected = [runner.infer({"packed": image})["y"] for image in images]
    wrong: list[int] = []

    def work(seed: int) -> None:
        for i in np.random.default_rng(seed).integers(0, len(images), 60):
            if not np.array_equal(runner.infer({"packed": images[i]})["y"], expected[i]):
                wrong.append(int(i))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_large_layer_on_several_threads(toolbox: Any, kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large enough to be divided: packing, planes and tiles."""
    monkeypatch.setenv(KERNELS_VARIABLE, kernels)
    generator = np.random.default_rng(12)
    x = generator.standard_normal((8, 128, 40, 40)).astype(np.float32)
    inputs = conv_inputs(generator, toolbox, Levels.BIPOLAR, c=128, o=70)
    constants = ("weight", "scale", "bias")
    model = model_of(opset.PACKED_CONV2D, inputs, CONV | {"channels": 128, "low": -1.0}, constants=constants)
    graph = model.graph
    pack = helper.make_node(opset.PACK_BIPOLAR, ["x", "threshold"], ["packed"], domain=opset.DOMAIN, channels=128)
    graph.node.insert(0, pack)
    model.functions.append(function_body(opset.PACK_BIPOLAR))
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [None] * 4))
    graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "threshold"))
    body = OnnxRuntimeRunner(model).infer({"x": x})["y"]
    for threads in (1, 3):
        assert np.array_equal(NativeCpuRunner(model, threads=threads).infer({"x": x})["y"], body)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("packed", np.zeros((1, 4, 4, 3), np.int32), "packed has 3 words, wanted 2 for 40 channels"),
        ("packed", np.zeros((4, 4, 2), np.int32), "packed has shape 4x4x2, wanted four axes"),
        ("weight", np.zeros((5, 3, 3, 1), np.int32), "weight has 1 words, wanted 2 for 40 channels"),
        ("scale", np.zeros(7, np.float32), "scale has shape 7, wanted 37 values"),
        ("bias", np.zeros((37, 1), np.float32), "bias has shape 37x1, wanted 37 values"),
    ],
)
def test_wrong_shape_names_the_node_and_both_values(
    refusal: Any, toolbox: Any, name: str, value: Any, message: str
) -> None:
    inputs = conv_inputs(np.random.default_rng(8), toolbox, Levels.BIPOLAR) | {name: value}
    model = model_of(opset.PACKED_CONV2D, inputs, CONV | {"channels": 40, "low": -1.0})
    said = refusal(lambda: NativeCpuRunner(model).infer(inputs))
    assert f"PackedConv2d 'layer': {message}" in said


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strides": [1, 1, 1]}, "attribute strides has 3 values, wanted 2"),
        ({"group": 3}, "40 channels do not divide into 3 groups"),
        ({"low": 0.5}, "attribute low is 0.5, wanted -1 or 0"),
        ({"pad_value": 0.25}, "attribute pad_value is 0.25, wanted -1, 0 or 1"),
        ({"channels": None}, "channels"),
    ],
)
def test_wrong_attribute_is_refused_when_the_session_is_made(
    refusal: Any, toolbox: Any, change: dict[str, Any], message: str
) -> None:
    inputs = conv_inputs(np.random.default_rng(9), toolbox, Levels.BIPOLAR)
    attributes = CONV | {"channels": 40, "low": -1.0} | change
    attributes = {name: value for name, value in attributes.items() if value is not None}
    model = model_of(opset.PACKED_CONV2D, inputs, attributes)
    said = refusal(lambda: NativeCpuRunner(model))
    assert message in said and "layer" in said


def test_unknown_kernels_are_refused_when_the_session_is_made(
    refusal: Any, toolbox: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KERNELS_VARIABLE, "mmx")
    inputs = conv_inputs(np.random.default_rng(10), toolbox, Levels.BIPOLAR)
    model = model_of(opset.PACKED_CONV2D, inputs, CONV | {"channels": 40, "low": -1.0})
    assert "'mmx' are not available here, wanted one of" in refusal(lambda: NativeCpuRunner(model))


sizes = st.integers(-2, 5) | st.sampled_from((2**31, 2**62, -(2**63)))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_attributes_and_shapes_crash(toolbox: Any, data: st.DataObject) -> None:
    """Anything at all: an error, or the result of the function body where that has one as well."""
    draw = data.draw
    attributes = {
        "channels": draw(st.sampled_from((1, 2, 32, 33, 64)) | sizes),
        "low": draw(st.sampled_from((-1.0, 0.0, 0.5))),
        "strides": draw(st.lists(st.integers(1, 3) | sizes, min_size=1, max_size=3)),
        "pads": draw(st.lists(st.integers(0, 3) | sizes, min_size=3, max_size=5)),
        "dilations": draw(st.lists(st.integers(1, 2) | sizes, min_size=1, max_size=3)),
        "group": draw(st.sampled_from((1, 2)) | sizes),
        "pad_value": draw(st.sampled_from((0.0, 1.0, float("nan"), float("inf")))),
    }
    dims = st.lists(st.integers(0, 4), min_size=1, max_size=5)
    generator = np.random.default_rng(draw(st.integers(0, 100)))

    def words(shape: list[int]) -> Any:
        return generator.integers(-(2**31), 2**31, shape).astype(np.int32)

    outputs = draw(st.integers(0, 4))
    inputs = {
        "packed": words(draw(st.tuples(*[st.integers(0, 5)] * 3, st.integers(0, 3)).map(list) | dims)),
        "weight": words(draw(st.tuples(st.just(outputs), *[st.integers(0, 3)] * 3).map(list) | dims)),
        "scale": np.ones(draw(st.sampled_from((outputs, 3))), np.float32),
        "bias": np.zeros(outputs, np.float32),
    }
    constants = draw(st.sampled_from(((), ("weight",))))
    try:
        runner = NativeCpuRunner(model_of(opset.PACKED_CONV2D, inputs, attributes, constants=constants), threads=1)
        runner.infer(feeds_of(inputs, constants))
    except InputRefused as refused:
        assert str(refused)
