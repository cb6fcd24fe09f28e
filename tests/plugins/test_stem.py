"""The stem by Winograd's method: within its proven bound of the exact result, and direct where that does not serve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import numpy_helper, parser

from bnn_deploy import opset
from bnn_deploy.error_analysis import ROUNDINGS, winograd
from bnn_deploy.functions import function_body
from bnn_deploy.native import KERNELS_VARIABLE

Float32 = NDArray[np.float32]
_AFTER = 2  # roundings behind the convolution's: the weight's and the bias's

pytestmark = pytest.mark.usefixtures("native")


def stem_model(pads: Sequence[int], weight: Float32 | None = None, *, name: str = "conv1") -> onnx.ModelProto:
    """A model of one stem; the weight is an input where none is given."""
    model = parser.parse_model(f"""
        <ir_version: {opset.ONNX_IR_VERSION}, opset_import: ["": {opset.ONNX_OPSET}, "{opset.DOMAIN}": {opset.VERSION}]>
        stem (float[n, c, h, w] x, float[o, k, a, b] weight, float[m] bias) => (float[n, o, i, j] y) {{
            y = {opset.DOMAIN}.{opset.STEM_CONV2D_MAX_POOL} <pads = {list(pads)}> (x, weight, bias)
        }}""")
    model.graph.node[0].name = name
    if weight is not None:
        model.graph.input.remove(next(each for each in model.graph.input if each.name == "weight"))
        model.graph.initializer.append(numpy_helper.from_array(weight, "weight"))
    model.functions.append(function_body(opset.STEM_CONV2D_MAX_POOL))
    return model


def run(native: Any, model: onnx.ModelProto, feeds: dict[str, Float32], kernels: str = "", threads: int = 1) -> Float32:
    """With the library's kernel, or where `kernels` is "body" with the function body."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    if kernels != "body":
        options.register_custom_ops_library(str(native.path))
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (y,) = session.run(None, feeds)
    return y


def exact(x: Float32, weight: Float32, bias: Float32, pads: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """What exact arithmetic gives, and how far rounding may take the kernel from it; float64."""
    top, left, bottom, right = pads
    padded = F.pad(torch.from_numpy(x).double(), (left, right, top, bottom))
    w, b = torch.from_numpy(weight).double(), torch.from_numpy(bias).double()[:, None, None]
    y = F.conv2d(padded, w, stride=2) + b
    bound = winograd.rounding_bound(ROUNDINGS["fp32"], padded.abs(), w, torch.zeros_like(w), (0, 0), _AFTER)
    bound = bound + ROUNDINGS["fp32"].gamma(1) * (y.abs() + b.abs() + bound)
    pool = {"kernel_size": 3, "stride": 2, "padding": 1}
    return F.max_pool2d(y, **pool), F.max_pool2d(bound, **pool)


@st.composite
def stems(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...], list[int]]:
    """The shapes of x and of the weight, and pads: any for which there is an output."""
    channels = draw(st.integers(1, 5))
    kernel = [draw(st.integers(1, 8)) for _ in range(2)]
    pads = [draw(st.integers(0, 9)) for _ in range(4)]
    sizes = [
        draw(st.integers(max(1, kernel[axis] - pads[axis] - pads[axis + 2]), 45 if axis else 30)) for axis in range(2)
    ]
    return (draw(st.integers(1, 2)), channels, *sizes), (draw(st.integers(1, 19)), channels, *kernel), pads


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=stems(), seed=st.integers(0, 99), constant=st.booleans())
@example(case=((1, 2, 13, 14), (1, 2, 7, 8), [0, 0, 0, 0]), seed=3, constant=True)
@example(case=((1, 2, 14, 13), (1, 2, 8, 7), [0, 0, 0, 0]), seed=3, constant=True)
@example(case=((1, 2, 14, 14), (1, 2, 8, 8), [0, 0, 0, 0]), seed=3, constant=True)
def test_within_its_bound_for_any_geometry(
    native: Any, kernels: str, monkeypatch: pytest.MonkeyPatch, case: Any, seed: int, constant: bool
) -> None:
    monkeypatch.setenv(KERNELS_VARIABLE, kernels)
    x_shape, weight_shape, pads = case
    generator = np.random.default_rng(seed)
    x, weight = (generator.standard_normal(shape).astype(np.float32) for shape in (x_shape, weight_shape))
    bias = generator.standard_normal(weight_shape[0]).astype(np.float32)
    feeds = {"x": x, "bias": bias} | ({} if constant else {"weight": weight})
    y = run(native, stem_model(pads, weight if constant else None), feeds, kernels)
    expected, bound = exact(x, weight, bias, pads)
    assert y.shape == tuple(expected.shape)
    assert (np.abs(y - expected.numpy()) <= bound.numpy()).all()


def image_stem(seed: int = 0, batch: int = 1, size: int = 70, outputs: int = 24) -> tuple[Float32, Float32, Float32]:
    """x, weight and bias of a 7x7 stem."""
    generator = np.random.default_rng(seed)
    shapes = ((batch, 3, size, size), (outputs, 3, 7, 7), (outputs,))
    x, weight, bias = (generator.standard_normal(shape).astype(np.float32) for shape in shapes)
    return x, weight, bias


IMAGES = {
    "zeros": lambda x: 0 * x,
    "an impulse": lambda x: np.where(np.arange(x.size).reshape(x.shape) == x.size // 3, np.float32(1000), 0 * x),
    "half of it small": lambda x: np.where(np.arange(x.shape[3]) < 33, x, np.float32(1e-6) * x),
    "subnormal": lambda x: np.float32(1e-39) * x,
    "a checkerboard": lambda x: np.sign(x * 0 + 1) * (1 - 2 * (np.indices(x.shape).sum(0) % 2)),
    "large": lambda x: np.float32(1e30) * x,
}


@pytest.mark.parametrize("image", IMAGES)
def test_within_its_bound_on_unusual_images(
    native: Any, kernels: str, monkeypatch: pytest.MonkeyPatch, image: str
) -> None:
    monkeypatch.setenv(KERNELS_VARIABLE, kernels)
    x, weight, bias = image_stem()
    x = IMAGES[image](x).astype(np.float32)
    expected, bound = exact(x, weight, bias, (3, 3, 3, 3))
    y = run(native, stem_model((3, 3, 3, 3), weight), {"x": x, "bias": bias}, kernels)
    assert (np.abs(y - expected.numpy()) <= bound.numpy()).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_in_its_windows(
    native: Any, kernels: str, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    monkeypatch.setenv(KERNELS_VARIABLE, kernels)
    x, weight, bias = image_stem(batch=2, size=40, outputs=5)
    x[1, 1, 20, 21] = value
    y = run(native, stem_model((3, 3, 3, 3), weight), {"x": x, "bias": bias}, kernels)
    wanted = F.conv2d(*map(torch.from_numpy, (x, weight, bias)), stride=2, padding=3)
    wanted = F.max_pool2d(wanted, 3, 2, 1).numpy()
    assert np.isnan(wanted).any() or np.isinf(wanted).any()
    np.testing.assert_allclose(y, wanted, rtol=1e-4, atol=1e-4)  # NaN equals NaN here
    np.testing.assert_array_equal(
        y[0], run(native, stem_model((3, 3, 3, 3), weight), {"x": x[:1], "bias": bias}, kernels)[0]
    )


@pytest.mark.parametrize("factor", [2.0**40, np.inf])
def test_large_weights_are_summed_directly(native: Any, factor: float) -> None:
    x, weight, bias = image_stem(size=30, outputs=3)
    weight[1] *= np.float32(factor)
    feeds = {"x": x, "bias": bias}
    y = run(native, stem_model((3, 3, 3, 3), weight), feeds)
    wanted = F.max_pool2d(F.conv2d(*map(torch.from_numpy, (x, weight, bias)), stride=2, padding=3), 3, 2, 1).numpy()
    np.testing.assert_allclose(y, wanted, rtol=1e-4, atol=1e-4 * min(factor, 1e6))


def test_threads_and_batches_change_no_bit(native: Any, kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """How rows of tiles are divided among tasks depends on both."""
    monkeypatch.setenv(KERNELS_VARIABLE, kernels)
    x, weight, bias = image_stem(batch=9, size=101)
    model = stem_model((3, 3, 3, 3), weight)
    together = run(native, model, {"x": x, "bias": bias}, kernels, threads=2)
    for n in range(len(x)):
        np.testing.assert_array_equal(run(native, model, {"x": x[n : n + 1], "bias": bias}, kernels)[0], together[n])


def test_the_body_is_a_direct_sum(native: Any) -> None:
    x, weight, bias = image_stem(size=224, outputs=64)
    model, feeds = stem_model((3, 3, 3, 3), weight), {"x": x, "bias": bias}
    fast, plain = run(native, model, feeds), run(native, model, feeds, "body")
    assert not np.array_equal(fast, plain), "the body ran where a kernel is"
    assert np.abs(fast - plain).max() < 1e-5 * np.abs(plain).max()


def test_an_empty_batch(native: Any) -> None:
    _, weight, bias = image_stem()
    feeds = {"x": np.zeros((0, 3, 20, 21), np.float32), "bias": bias}
    assert run(native, stem_model((3, 3, 3, 3), weight), feeds).shape == (0, 24, 5, 6)


REFUSED = {
    "x has shape 1x4x20x20, wanted [N, 3, H, W]": ((1, 4, 20, 20), (2, 3, 7, 7), 2, (3, 3, 3, 3)),
    "wanted a kernel of at most 8x8": ((1, 3, 20, 20), (2, 3, 9, 7), 2, (3, 3, 3, 3)),
    "attribute pads is -1, wanted 0": ((1, 3, 20, 20), (2, 3, 7, 7), 2, (3, -1, 3, 3)),
    "height": ((1, 3, 5, 20), (2, 3, 7, 7), 2, (0, 3, 0, 3)),
    "bias has shape 3, wanted 2 values": ((1, 3, 20, 20), (2, 3, 7, 7), 3, (3, 3, 3, 3)),
    "weight has shape 0x3x7x7": ((1, 3, 20, 20), (0, 3, 7, 7), 0, (3, 3, 3, 3)),
}


@pytest.mark.parametrize("said", REFUSED)
def test_what_does_not_fit_is_refused_by_name(native: Any, said: str) -> None:
    x_shape, weight_shape, biases, pads = REFUSED[said]
    feeds = {"x": x_shape, "weight": weight_shape, "bias": (biases,)}
    with pytest.raises(Exception) as raised:
        run(native, stem_model(pads), {name: np.zeros(shape, np.float32) for name, shape in feeds.items()})
    assert said in str(raised.value)
    assert "conv1" in str(raised.value)
