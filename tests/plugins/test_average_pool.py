"""AveragePool2d and AveragePoolConv2d in the native library: the definition, PyTorch, ONNX Runtime's own kernels."""

from __future__ import annotations

import platform
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from onnx.parser import parse_model

from bnn_deploy import opset
from bnn_deploy.errors import InputRefused
from bnn_deploy.functions import function_body
from bnn_deploy.native import KERNELS_VARIABLE
from bnn_deploy.runners.native_cpu import NativeCpuRunner
from bnn_deploy.runners.onnxruntime import OnnxRuntimeRunner

EDGES = np.array([0.0, -0.0, 1e-45, -1e-45, np.nan, np.inf, -np.inf, 3e38], np.float32)
MARGIN = 40  # values on either side of y that nobody writes to
UNIT_ROUNDOFF = 2.0**-24
# Input channels, input size and output channels of the shortcuts of an 18-layer residual network.
SHORTCUTS = ((64, 56, 128), (128, 28, 256), (256, 14, 512))

pytestmark = pytest.mark.usefixtures("native")


def run_pool(
    native: Any,
    toolbox: Any,
    kernels: str,
    x: Any,
    kernel: Any,
    strides: Any,
    weight: Any = None,
    bias: Any = None,
    threads: int = 1,
) -> Any:
    """x: [N, C, H, W] -> y: [N, C or O, H', W'] float32, and nothing written beside it."""
    sizes = [(x.shape[2 + i] - kernel[i]) // strides[i] + 1 for i in range(2)]
    shape = (x.shape[0], x.shape[1] if weight is None else weight.shape[0], *sizes)
    memory = np.full(int(np.prod(shape)) + 2 * MARGIN, 77, np.float32)
    call = toolbox.AveragePoolCall()
    call.x_dims[:], call.kernel[:], call.strides[:] = x.shape, kernel, strides
    if weight is not None:
        call.weight_dims[:] = weight.shape
    call.x, call.weight, call.bias = toolbox.pointer(x), toolbox.pointer(weight), toolbox.pointer(bias)
    call.y = toolbox.pointer(memory) + MARGIN * memory.itemsize
    native.call("bnn_average_pool", kernels, threads, call)
    assert (memory[:MARGIN] == 77).all() and (memory[-MARGIN:] == 77).all()
    return memory[MARGIN:-MARGIN].reshape(shape)


def averages(x: Any, kernel: Any, strides: Any) -> Any:
    """The definition: windows summed row by row, from zero, then divided. [N, C, H', W'] float32."""
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel, (2, 3))[:, :, :: strides[0], :: strides[1]]
    total = np.zeros(windows.shape[:4], np.float32)
    with np.errstate(all="ignore"):
        for i in range(kernel[0]):
            for j in range(kernel[1]):
                total = total + windows[..., i, j]
        return total / np.float32(kernel[0] * kernel[1])


def equal_bits(a: Any, b: Any) -> bool:
    """Equal, the signs of zeros too; a NaN is a NaN."""
    nan = np.isnan(a) & np.isnan(b)
    return bool(np.array_equal(np.where(nan, 0, a).view(np.int32), np.where(nan, 0, b).view(np.int32)))


def is_pointwise(y: Any, pooled: Any, weight: Any, bias: Any, roundings: int = 0) -> bool:
    """Whether |y - exact| <= gamma_(C + 2 + roundings) (|bias| + sum |w| |x|), the bound of any order of summation."""
    n = weight.shape[1] + 2 + roundings
    gamma = n * UNIT_ROUNDOFF / (1 - n * UNIT_ROUNDOFF)
    matrix, wide = weight[:, :, 0, 0].astype(np.float64), pooled.astype(np.float64)
    exact = np.einsum("oc,nchw->nohw", matrix, wide) + bias.reshape(-1, 1, 1)
    magnitude = np.einsum("oc,nchw->nohw", abs(matrix), abs(wide)) + abs(bias).reshape(-1, 1, 1)
    return bool((abs(y - exact) <= gamma * magnitude).all())


@st.composite
def pools(draw: st.DrawFn) -> dict[str, Any]:
    """Sizes that fit each other: 2x2 windows and any others, images wider and narrower than vectors."""
    if draw(st.booleans()):
        kernel, strides = (2, 2), (2, 2)
    else:
        kernel = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
        strides = (draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    return {
        "kernel": kernel,
        "strides": strides,
        "shape": (
            draw(st.integers(1, 2)),
            draw(st.sampled_from((1, 2, 3, 8, 16, 21, 70))),
            draw(st.integers(kernel[0], 40)),
            draw(st.integers(kernel[1], 75)),
        ),
        "outputs": draw(st.sampled_from((1, 3, 4, 8, 9, 33))),
        "threads": draw(st.integers(1, 3)),
        "seed": draw(st.integers(0, 2**32 - 1)),
    }


def random_image(seed: int, shape: tuple[int, ...], edges: float = 0.0) -> Any:
    """Normal values, a share of them replaced by edges."""
    generator = np.random.default_rng(seed)
    x = generator.standard_normal(shape).astype(np.float32)
    return np.where(generator.random(shape) < edges, generator.choice(EDGES, shape), x)


def random_weights(seed: int, outputs: int, channels: int) -> tuple[Any, Any]:
    """[O, C, 1, 1] and [O] float32."""
    generator = np.random.default_rng(seed)
    weight = generator.standard_normal((outputs, channels, 1, 1)).astype(np.float32)
    return weight, generator.standard_normal(outputs).astype(np.float32)


@settings(max_examples=60)
@given(p=pools(), edges=st.sampled_from((0.0, 0.1, 0.9)))
def test_averages_are_equal_bit_for_bit(
    native: Any, toolbox: Any, kernels: str, p: dict[str, Any], edges: float
) -> None:
    x = random_image(p["seed"], p["shape"], edges)
    found = run_pool(native, toolbox, kernels, x, p["kernel"], p["strides"], threads=p["threads"])
    assert equal_bits(found, averages(x, p["kernel"], p["strides"]))


@pytest.mark.parametrize("kernel", [(2, 2), (3, 1)])
def test_the_average_of_negative_zeros_is_zero(native: Any, toolbox: Any, kernels: str, kernel: Any) -> None:
    x = np.full((1, 2, 6, 50), -0.0, np.float32)
    assert not np.signbit(run_pool(native, toolbox, kernels, x, kernel, (2, 2))).any()


@settings(max_examples=25)
@given(p=pools())
def test_averages_are_those_of_pytorch(native: Any, toolbox: Any, p: dict[str, Any]) -> None:
    x = random_image(p["seed"], p["shape"])
    found = run_pool(native, toolbox, native.chosen(), x, p["kernel"], p["strides"])
    expected = torch.nn.functional.avg_pool2d(torch.from_numpy(x), p["kernel"], p["strides"])
    assert equal_bits(found, expected.numpy())


@settings(max_examples=60)
@given(p=pools())
def test_the_convolution_is_within_its_rounding(native: Any, toolbox: Any, kernels: str, p: dict[str, Any]) -> None:
    x = random_image(p["seed"], p["shape"])
    weight, bias = random_weights(p["seed"], p["outputs"], x.shape[1])
    window = (p["kernel"], p["strides"])
    found = [run_pool(native, toolbox, kernels, x, *window, weight, bias, threads) for threads in (1, p["threads"])]
    assert is_pointwise(found[0], averages(x, *window), weight, bias)
    assert np.array_equal(*found)


@pytest.mark.parametrize(("channels", "size", "outputs"), SHORTCUTS)
def test_shortcuts_of_a_network(
    native: Any, toolbox: Any, kernels: str, channels: int, size: int, outputs: int
) -> None:
    x = random_image(1, (2, channels, size, size))
    weight, bias = random_weights(2, outputs, channels)
    found = run_pool(native, toolbox, kernels, x, (2, 2), (2, 2), weight, bias, 2)
    assert is_pointwise(found, averages(x, (2, 2), (2, 2)), weight, bias)


@pytest.mark.parametrize("size", [6, 10, 14, 18, 26])
def test_a_pixel_that_is_no_number_stays_alone(native: Any, toolbox: Any, kernels: str, size: int) -> None:
    """In vectors, in part of a vector and in a tail: other pixels are what they are without it."""
    x = random_image(3, (1, 5, size, size))
    weight, bias = random_weights(4, 11, 5)
    before = run_pool(native, toolbox, kernels, x, (2, 2), (2, 2), weight, bias)
    for row, column in ((0, 0), (size // 2, size - 1), (size - 1, size - 1)):
        broken = x.copy()
        broken[0, 3, row, column] = np.nan
        found = run_pool(native, toolbox, kernels, broken, (2, 2), (2, 2), weight, bias)
        at = np.zeros(found.shape[2:], bool)
        at[row // 2, column // 2] = True
        assert np.isnan(found[..., at]).all() and np.array_equal(found[..., ~at], before[..., ~at])


def model_of(
    op: str, kernel: Any = (2, 2), strides: Any = (2, 2), *, ranks: tuple[int, ...] = (4, 4, 1), **constants: Any
) -> onnx.ModelProto:
    """One node named `layer` with its function body; `constants` are those of its inputs that are."""
    names = ("x",) if op == opset.AVERAGE_POOL2D else ("x", "weight", "bias")
    axes = {name: ",".join(f"{name}{axis}" for axis in range(rank)) for name, rank in zip(names, ranks, strict=False)}
    inputs = ", ".join(f"float[{axes[name]}] {name}" for name in names if name not in constants)
    model = parse_model(f"""
        <ir_version: 9, opset_import: ["": {opset.ONNX_OPSET}, "{opset.DOMAIN}": {opset.VERSION}]>
        one ({inputs}) => (float[n,o,h,w] y) {{
            y = {opset.DOMAIN}.{op} <kernel_shape = {list(kernel)}, strides = {list(strides)}> ({", ".join(names)})
        }}""")
    model.graph.node[0].name = "layer"
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    model.functions.append(function_body(op))
    return model


@pytest.mark.parametrize(("kernel", "strides"), [((2, 2), (2, 2)), ((3, 2), (1, 3)), ((7, 7), (7, 7))])
def test_pool_in_onnxruntime(kernels: str, kernel: Any, strides: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the body, whose order of summation depends on the layout that ONNX Runtime chose."""
    monkeypatch.setenv(KERNELS_VARIABLE, kernels)
    x = random_image(5, (2, 21, 15, 37))
    model = model_of(opset.AVERAGE_POOL2D, kernel, strides)
    found, body = (runner(model).infer({"x": x})["y"] for runner in (NativeCpuRunner, OnnxRuntimeRunner))
    assert equal_bits(found, averages(x, kernel, strides))
    bound = kernel[0] * kernel[1] * UNIT_ROUNDOFF * averages(abs(x), kernel, strides)
    assert (abs(found - body) <= 2 * bound).all()


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="no blocked layout")
@pytest.mark.parametrize(("kernel", "strides"), [((2, 2), (2, 2)), ((3, 3), (2, 2)), ((3, 2), (1, 3))])
def test_pool_is_that_of_onnxruntime_behind_a_convolution(kernel: Any, strides: Any) -> None:
    """In the blocked layout that convolutions have, ONNX Runtime sums in the same order: bit for bit."""
    x = random_image(6, (2, 32, 15, 38))
    text = f"""
        <ir_version: 9, opset_import: ["": {opset.ONNX_OPSET}]>
        two (float[2,32,15,38] x) => (float[n,o,h,w] y) {{
            same = Conv (x, weight)
            y = AveragePool <kernel_shape = {list(kernel)}, strides = {list(strides)}> (same)
        }}"""
    model = parse_model(text)
    identity = np.eye(32, dtype=np.float32).reshape(32, 32, 1, 1)
    model.graph.initializer.append(numpy_helper.from_array(identity, "weight"))
    stock = OnnxRuntimeRunner(model).infer({"x": x})["y"]
    assert equal_bits(NativeCpuRunner(model_of(opset.AVERAGE_POOL2D, kernel, strides)).infer({"x": x})["y"], stock)


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("shape", [(2, 21, 15, 37), (1, 64, 14, 14)])
def test_convolution_in_onnxruntime(
    kernels: str, shape: tuple[int, ...], constant: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KERNELS_VARIABLE, kernels)
    x = random_image(7, shape)
    weight, bias = random_weights(8, 37, shape[1])
    operands = {"weight": weight, "bias": bias}
    model = model_of(opset.AVERAGE_POOL_CONV2D, **(operands if constant else {}))
    feeds = {"x": x} | ({} if constant else operands)
    found, body = (runner(model).infer(feeds)["y"] for runner in (NativeCpuRunner, OnnxRuntimeRunner))
    assert is_pointwise(found, averages(x, (2, 2), (2, 2)), weight, bias)
    assert is_pointwise(body, averages(x, (2, 2), (2, 2)), weight, bias, roundings=4)


def test_several_threads_of_onnxruntime() -> None:
    """Large enough to be divided, and the same whoever computes a part."""
    x = random_image(9, (2, 64, 112, 112))
    weight, bias = random_weights(10, 70, 64)
    for op, operands in ((opset.AVERAGE_POOL2D, {}), (opset.AVERAGE_POOL_CONV2D, {"weight": weight, "bias": bias})):
        model = model_of(op, **operands)
        found = [NativeCpuRunner(model, threads=threads).infer({"x": x})["y"] for threads in (1, 3)]
        assert np.array_equal(*found)


@pytest.mark.parametrize("op", [opset.AVERAGE_POOL2D, opset.AVERAGE_POOL_CONV2D])
def test_no_images(op: str) -> None:
    weight, bias = random_weights(11, 7, 5)
    feeds = {"x": np.zeros((0, 5, 9, 6), np.float32)}
    model = model_of(op, **({} if op == opset.AVERAGE_POOL2D else {"weight": weight, "bias": bias}))
    assert NativeCpuRunner(model).infer(feeds)["y"].shape == (0, 5 if op == opset.AVERAGE_POOL2D else 7, 4, 3)


@pytest.mark.parametrize(
    ("kernel", "strides", "message"),
    [
        ((2, 2, 2), (2, 2), "attribute kernel_shape has 3 values, wanted 2"),
        ((2, 0), (2, 2), "attribute kernel_shape is 0, wanted 1 to 16777216"),
        ((2, 2), (2,), "attribute strides has 1 values, wanted 2"),
        ((2, 2), (-1, 2), "attribute strides is -1, wanted 1 to 16777216"),
    ],
)
@pytest.mark.parametrize("op", [opset.AVERAGE_POOL2D, opset.AVERAGE_POOL_CONV2D])
def test_wrong_attributes_are_refused_when_the_session_is_made(
    refusal: Any, op: str, kernel: Any, strides: Any, message: str
) -> None:
    said = refusal(lambda: NativeCpuRunner(model_of(op, kernel, strides)))
    assert f"{op} 'layer': {message}" in said


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("x", (1, 5, 1, 9), "the kernel spans 2 pixels of height, but the padded input has 1"),
        ("x", (1, 5, 9, 0), "the kernel spans 2 pixels of width, but the padded input has 0"),
        ("x", (1, 6, 9, 9), "x has 6 channels, weight is for 5"),
        ("x", (5, 9, 9), "x has shape 5x9x9, wanted four axes: N, C, H, W"),
        ("weight", (7, 5, 1, 3), "weight has shape 7x5x1x3, wanted [O, C, 1, 1]"),
        ("weight", (7, 5), "weight has shape 7x5, wanted [O, C, 1, 1]"),
        ("weight", (7, 0, 1, 1), "attribute weight axis is 0, wanted 1 to 16777216"),
        ("bias", (6,), "bias has shape 6, wanted 7 values"),
        ("bias", (7, 1), "bias has shape 7x1, wanted 7 values"),
    ],
)
def test_wrong_shapes_name_the_node_and_both_values(
    refusal: Any, name: str, shape: tuple[int, ...], message: str
) -> None:
    shapes = {"x": (1, 5, 9, 9), "weight": (7, 5, 1, 1), "bias": (7,)} | {name: shape}
    feeds = {key: np.zeros(value, np.float32) for key, value in shapes.items()}
    ranks = tuple(len(value) for value in shapes.values())
    op = opset.AVERAGE_POOL_CONV2D
    assert f"{op} 'layer': {message}" in refusal(lambda: NativeCpuRunner(model_of(op, ranks=ranks)).infer(feeds))
    if name == "weight":
        constants = {"weight": feeds["weight"]}
        assert message in refusal(lambda: NativeCpuRunner(model_of(op, ranks=ranks, **constants)))


sizes = st.integers(-2, 5) | st.sampled_from((2**31, 2**62, -(2**63)))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_attributes_and_shapes_crash(data: st.DataObject) -> None:
    draw = data.draw
    op = draw(st.sampled_from((opset.AVERAGE_POOL2D, opset.AVERAGE_POOL_CONV2D)))
    kernel, strides = (draw(st.lists(sizes, min_size=1, max_size=3)) for _ in range(2))
    dims = st.lists(st.integers(0, 5), min_size=1, max_size=5)
    shapes = [draw(st.tuples(*[st.integers(0, 5)] * 4).map(list) | dims)]
    if op == opset.AVERAGE_POOL_CONV2D:
        shapes += [draw(st.tuples(st.integers(0, 4), st.integers(0, 4)).map(lambda two: [*two, 1, 1]) | dims)]
        shapes += [draw(st.tuples(st.integers(0, 4)).map(list) | dims)]
    feeds = {name: np.ones(shape, np.float32) for name, shape in zip(("x", "weight", "bias"), shapes, strict=False)}
    try:
        runner = NativeCpuRunner(model_of(op, kernel, strides, ranks=tuple(len(shape) for shape in shapes)), threads=1)
        runner.infer(feeds)
    except InputRefused as refused:
        assert str(refused)
