"""The slow runner, against the definition of each op in PyTorch's float64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from bnn_deploy import bits
from bnn_deploy.errors import InputRefused
from bnn_deploy.runners.onnxruntime import OnnxRuntimeRunner
from bnn_deploy.runners.reference import ReferenceRunner

EDGES = [0.0, -0.0, 1e-45, -1e-45, np.nan, np.inf, -np.inf]


@pytest.mark.parametrize(
    "network", ["Residual", "Fused", "Spatial", "Ternary", "Unipolar", "Assorted", "Repeated", "TwoInputs"]
)
def test_it_is_what_onnxruntime_computes(network: str, deployed: Callable[..., Any]) -> None:
    given = deployed(network)
    found, expected = ReferenceRunner(given.path).infer(given.feeds), OnnxRuntimeRunner(given.path).infer(given.feeds)
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        # Only what is not 1-bit may differ, by rounding: relative to the largest output.
        np.testing.assert_allclose(found[name], array, rtol=0, atol=1e-5 * float(np.abs(array).max()))


def one_op(op_type: str, arrays: dict[str, Any], output: int, rank: int, **attributes: Any) -> onnx.ModelProto:
    """A file with one op of ours: the first array is its input, the others are constants."""
    (name, x), *constants = arrays.items()
    kind = helper.np_dtype_to_tensor_dtype(x.dtype)
    graph = helper.make_graph(
        [helper.make_node(op_type, list(arrays), ["y"], domain="bnn_deploy", **attributes)],
        "one",
        [helper.make_tensor_value_info(name, kind, x.shape)],
        [helper.make_tensor_value_info("y", output, [None] * rank)],
        [numpy_helper.from_array(array, label) for label, array in constants],
    )
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("bnn_deploy", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def run_one(op_type: str, arrays: dict[str, Any], output: int, rank: int, **attributes: Any) -> Any:
    name, x = next(iter(arrays.items()))
    return ReferenceRunner(one_op(op_type, arrays, output, rank, **attributes)).infer({name: x})["y"]


@pytest.mark.parametrize(
    ("op_type", "threshold", "bit"),
    [
        ("PackBipolar", 0.0, lambda v: v >= 0),
        ("PackBipolar", 0.5, lambda v: v >= 0.5),
        ("PackUnipolar", 0.0, lambda v: v > 0),
        ("PackUnipolar", -0.5, lambda v: v > -0.5),
    ],
)
def test_packing(op_type: str, threshold: float, bit: Callable[[float], bool]) -> None:
    channels = 35
    x = np.random.default_rng(0).standard_normal((2, channels, 3)).astype(np.float32)
    x.flat[: len(EDGES)] = EDGES
    x[1, :2, 0] = threshold, np.nextafter(np.float32(threshold), np.float32(-1))
    found = run_one(op_type, {"x": x, "t": np.float32([threshold])}, TensorProto.INT32, 3, channels=channels)
    assert found.shape == (2, 3, 2) and found.dtype == np.int32
    for sample, channel, place in np.ndindex(x.shape):
        word = int(found[sample, place, channel // 32]) & 0xFFFFFFFF
        assert bool(word >> (channel % 32) & 1) == bit(float(x[sample, channel, place])), x[sample, channel, place]
    assert not (found[..., 1].astype(np.uint32) >> np.uint32(channels - 32)).any()


def test_packing_three_levels() -> None:
    x = np.float32([*EDGES, 2.0, -2.0]).reshape(1, -1)
    found = run_one("PackTernary", {"x": x}, TensorProto.INT32, 2, channels=x.shape[1])
    positive = [0, 0, 1, 0, 0, 1, 0, 1, 0]
    negative = [0, 0, 0, 1, 1, 0, 1, 0, 1]  # NaN is the lesser level
    assert found.tolist() == [[sum(bit << index for index, bit in enumerate(plane)) for plane in (positive, negative)]]


@settings(max_examples=30)
@given(st.data())
def test_convolutions(data: st.DataObject) -> None:
    """Any geometry, any levels: the integer sums of PyTorch's float64 convolution, then scale and bias."""
    draw = data.draw
    generator = np.random.default_rng(draw(st.integers(0, 2**16)))
    levels = draw(st.sampled_from([None, *bits.Levels]))  # None: real activations
    groups, per_group, share = draw(st.sampled_from([(1, 33, 3), (1, 2, 1), (2, 3, 2), (3, 1, 1)]))
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    strides, dilations = (draw(st.tuples(st.integers(1, 2), st.integers(1, 2))) for _ in range(2))
    pads, pad_value = draw(st.tuples(*[st.integers(0, 2)] * 4)), draw(st.sampled_from([0.0, -1.0, 1.0]))
    channels, outputs = groups * per_group, groups * share
    shape = (2, channels, *(d * (k - 1) + 1 + draw(st.integers(0, 3)) for d, k in zip(dilations, kernel, strict=True)))
    values = {
        None: generator.standard_normal(shape).astype(np.float32),
        bits.Levels.BIPOLAR: generator.choice([-1, 1], shape),
        bits.Levels.UNIPOLAR: generator.choice([0, 1], shape),
        bits.Levels.TERNARY: generator.choice([-1, 0, 1], shape),
    }[levels]
    signs = generator.choice([-1, 1], (outputs, per_group, *kernel)).astype(np.int8)
    scale, bias = generator.standard_normal((2, outputs)).astype(np.float32)
    attributes = {
        "channels": channels,
        "group": groups,
        "strides": strides,
        "dilations": dilations,
        "pads": pads,
        "pad_value": pad_value,
    }
    op_type, x = "BinaryWeightConv2d", values
    if levels is not None:
        x = bits.pack_levels(np.moveaxis(values.astype(np.int8), 1, -1), levels)
        op_type = "PackedTernaryConv2d" if levels is bits.Levels.TERNARY else "PackedConv2d"
        if levels is not bits.Levels.TERNARY:
            attributes["low"] = -1.0 if levels is bits.Levels.BIPOLAR else 0.0
    arrays = {"x": x, "w": bits.pack_bits(np.moveaxis(signs > 0, 1, -1)), "s": scale, "b": bias}
    found = run_one(op_type, arrays, TensorProto.FLOAT, 4, **attributes)

    top, left, bottom, right = pads
    framed = torch.nn.functional.pad(torch.from_numpy(values).double(), (left, right, top, bottom), value=pad_value)
    sums = torch.nn.functional.conv2d(
        framed, torch.from_numpy(signs).double(), None, strides, 0, dilations, groups
    ).numpy()
    expected = (scale.astype(np.float64).reshape(-1, 1, 1) * sums + bias.astype(np.float64).reshape(-1, 1, 1)).astype(
        np.float32
    )
    if levels is None:
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    else:
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("levels", [None, *bits.Levels])
def test_fully_connected(levels: bits.Levels | None) -> None:
    generator, channels, outputs = np.random.default_rng(3), 70, 5
    choice = {bits.Levels.BIPOLAR: [-1, 1], bits.Levels.UNIPOLAR: [0, 1], bits.Levels.TERNARY: [-1, 0, 1]}
    values = (
        generator.standard_normal((4, channels)).astype(np.float32)
        if levels is None
        else generator.choice(choice[levels], (4, channels)).astype(np.int8)
    )
    signs = generator.choice([-1, 1], (outputs, channels))
    scale, bias = generator.standard_normal((2, outputs)).astype(np.float32)
    attributes: dict[str, Any] = {"channels": channels}
    op_type = {None: "BinaryWeightLinear", bits.Levels.TERNARY: "PackedTernaryLinear"}.get(levels, "PackedLinear")
    if op_type == "PackedLinear":
        attributes["low"] = -1.0 if levels is bits.Levels.BIPOLAR else 0.0
    x = values if levels is None else bits.pack_levels(values, levels)
    arrays = {"x": x, "w": bits.pack_bits(signs > 0), "s": scale, "b": bias}
    found = run_one(op_type, arrays, TensorProto.FLOAT, 2, **attributes)
    expected = scale.astype(np.float64) * (values.astype(np.float64) @ signs.T) + bias
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0 if levels else 1e-6, atol=1e-6)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match=r"none.onnx: no such file; wanted: an ONNX file"):
        ReferenceRunner(tmp_path / "none.onnx")


def test_inputs_that_do_not_fit(deployed: Callable[..., Any]) -> None:
    with pytest.raises(InputRefused, match=r"reference: input 'x': shape 2x3x4x5; wanted: shape anyx3x4x4"):
        ReferenceRunner(deployed("Residual").path).infer({"x": np.zeros((2, 3, 4, 5), np.float32)})


def test_the_model_given_is_left_alone(deployed: Callable[..., Any]) -> None:
    model = deployed("Residual").proto()
    before = model.SerializeToString(deterministic=True)
    ReferenceRunner(model)
    assert model.SerializeToString(deterministic=True) == before
