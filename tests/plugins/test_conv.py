"""The convolution kernels of the native library: exact, for every geometry, on every instruction set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnn_deploy.bits import Levels, pack_bits
from bnn_deploy.reference import Geometry, accumulate_conv2d

CHANNELS = (1, 3, 4, 5, 31, 32, 33, 64, 70, 100, 128, 200)
STRIDES = st.just((1, 1)) | st.tuples(st.integers(1, 3), st.integers(1, 3) | st.just(50))  # those of most layers, any


@st.composite
def geometries(draw: st.DrawFn) -> dict[str, Any]:
    """Sizes that fit each other; odd ones are as likely as the usual ones."""
    kernel = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    dilations = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    pads = tuple(draw(st.integers(0, 3)) for _ in range(4))
    window = [dilation * (size - 1) + 1 for dilation, size in zip(dilations, kernel, strict=True)]
    sizes = [draw(st.integers(max(1, window[i] - pads[i] - pads[i + 2]), 19)) for i in range(2)]
    group = draw(st.sampled_from((1, 1, 1, 2, 3)))
    return {
        "batch": draw(st.integers(1, 2)),
        "channels": group * draw(st.sampled_from(CHANNELS)),
        "outputs": group * draw(st.integers(1, 40)),
        "sizes": sizes,
        "kernel": kernel,
        "strides": draw(STRIDES),
        "pads": pads,
        "dilations": dilations,
        "group": group,
        "pad_value": draw(st.sampled_from((-1, 0, 1))),
        "levels": draw(st.sampled_from(list(Levels))),
        "threads": draw(st.integers(1, 3)),
        "seed": draw(st.integers(0, 2**32 - 1)),
    }


def make_case(toolbox: Any, g: dict[str, Any]) -> Any:
    """A case with random levels and weights, and an epilogue that leaves the accumulator as it is."""
    generator = np.random.default_rng(g["seed"])
    x = toolbox.levels(generator, g["levels"], (g["batch"], g["channels"], *g["sizes"]))
    shape = (g["outputs"], g["channels"] // g["group"], *g["kernel"])
    weight = toolbox.levels(generator, Levels.BIPOLAR, shape)
    names = ("strides", "pads", "dilations", "group", "pad_value")
    case = toolbox.ConvCase(g["levels"], x, weight, **{name: g[name] for name in names})
    case.extra = {"scale": np.ones(g["outputs"], np.float32), "bias": np.zeros(g["outputs"], np.float32)}
    return case


def accumulators(case: Any) -> Any:
    """The exact sums, by the NumPy reference. [N, O, H', W'] int32."""
    geometry = Geometry(case.strides, case.pads, case.dilations, case.group, float(case.pad_value))
    return accumulate_conv2d(case.x, case.weight, geometry)


@settings(max_examples=60)
@given(g=geometries())
def test_accumulators_are_exact(native: Any, toolbox: Any, kernels: str, g: dict[str, Any]) -> None:
    case = make_case(toolbox, g)
    found = case.run(native, kernels, g["threads"])["y"]
    assert np.array_equal(found, accumulators(case))


@settings(max_examples=25)
@given(g=geometries())
def test_plain_loops_agree_with_numpy(native: Any, toolbox: Any, g: dict[str, Any]) -> None:
    case = make_case(toolbox, g)
    assert np.array_equal(case.run(native, "reference")["y"], accumulators(case))


def with_epilogue(case: Any, seed: int, residual: bool, activation: int, packed: bool) -> Any:
    """Adds random operands; scales of either sign, and a few NaN and infinite ones."""
    generator = np.random.default_rng(seed)
    outputs = case.weight.shape[0]

    def vector() -> Any:
        return generator.standard_normal(outputs).astype(np.float32)

    case.extra = {"scale": vector(), "bias": vector()}
    case.extra["scale"][generator.random(outputs) < 0.1] = np.nan
    case.extra["bias"][generator.random(outputs) < 0.1] = -np.inf
    if residual:
        case.extra["residual"] = generator.standard_normal(case.out_shape()).astype(np.float32)
    if activation == 1:
        case.extra |= {"slope": vector(), "shift": vector()}
    if packed:
        case.extra |= {"lower": vector() - 2, "upper": vector() + 2}
        case.outputs = ("y", "bits")
    case.activation, case.clip = activation, (-0.5, 1.5)
    return case


def expected_epilogue(case: Any) -> dict[str, Any]:
    """The documented float32 arithmetic, one rounding an operation, in NumPy."""
    e = {name: array.reshape(-1, 1, 1) if array.ndim == 1 else array for name, array in case.extra.items()}
    with np.errstate(all="ignore"):
        z = e["scale"] * accumulators(case).astype(np.float32)
        z = z + e["bias"]
        if "residual" in e:
            z = z + e["residual"]
        if case.activation == 1:
            z = np.where(z >= 0, z, e["slope"] * z) + e["shift"]
        if case.activation == 2:
            z = np.where(z < np.float32(case.clip[0]), np.float32(case.clip[0]), z)
            z = np.where(z > np.float32(case.clip[1]), np.float32(case.clip[1]), z)
        found = {"y": z}
        if "bits" in case.outputs:
            found["bits"] = pack_bits(np.moveaxis((e["lower"] <= z) & (z <= e["upper"]), 1, -1))
    return found


@settings(max_examples=60)
@given(
    g=geometries(),
    residual=st.booleans(),
    activation=st.integers(0, 2),
    packed=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_epilogue_is_equal_bit_for_bit(
    native: Any, toolbox: Any, kernels: str, g: dict[str, Any], residual: bool, activation: int, packed: bool, seed: int
) -> None:
    case = with_epilogue(make_case(toolbox, g), seed, residual, activation, packed)
    found, expected = case.run(native, kernels, g["threads"]), expected_epilogue(case)
    assert found.keys() == expected.keys()
    assert np.array_equal(found["y"], expected["y"], equal_nan=True)
    assert all(np.array_equal(found[name], expected[name]) for name in found if name != "y")


@settings(max_examples=60)
@given(
    g=geometries(),
    residual=st.booleans(),
    activation=st.integers(0, 2),
    packed=st.booleans(),
    magnitude=st.sampled_from((1e-9, 1e-6, 1.0, 3e3)),
    seed=st.integers(0, 2**32 - 1),
)
def test_float16_is_rounded_once_behind_the_bits(
    native: Any,
    toolbox: Any,
    kernels: str,
    g: dict[str, Any],
    residual: bool,
    activation: int,
    packed: bool,
    magnitude: float,
    seed: int,
) -> None:
    """Sums that overflow, and some that become subnormal or 0: the float32 of the steps, then one rounding."""
    case = with_epilogue(make_case(toolbox, g), seed, residual, activation, packed)
    case.extra["scale"] *= np.float32(magnitude)
    case.float16 = True
    if residual:
        case.extra["residual"] = (case.extra["residual"] * magnitude).astype(np.float16)
    found, expected = case.run(native, kernels, g["threads"]), expected_epilogue(case)
    with np.errstate(over="ignore"):
        assert np.array_equal(found["y"], expected["y"].astype(np.float16), equal_nan=True)
    assert all(np.array_equal(found[name], expected[name]) for name in found if name != "y")


def pass_through(native: Any, toolbox: Any, kernels: str, bias: Any, residual: Any | None) -> Any:
    """bias: [O] float32, residual: [O] float16 -> their sum, [O] float16: the scale is -0.0, and -0.0 + x is x."""
    weight = np.ones((len(bias), 1, 1, 1), np.int8)
    case = toolbox.ConvCase(Levels.BIPOLAR, np.ones((1, 1, 1, 1), np.int8), weight, float16=True)
    case.extra = {"scale": np.full(len(bias), -0.0, np.float32), "bias": bias}
    if residual is not None:
        case.extra["residual"] = residual
    return case.run(native, kernels)["y"].reshape(-1)


@pytest.mark.parametrize("reference", [False, True], ids=["kernel", "plain loops"])
def test_every_float16_survives(native: Any, toolbox: Any, kernels: str, reference: bool) -> None:
    """Widened and rounded back: both zeros, subnormals, infinities, NaN."""
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    bias = np.full(every.size, -0.0, np.float32)
    found = pass_through(native, toolbox, "reference" if reference else kernels, bias, every)
    number = ~np.isnan(every)
    assert np.array_equal(found.view(np.uint16)[number], every.view(np.uint16)[number])
    assert np.isnan(found[~number]).all()


@pytest.mark.parametrize("reference", [False, True], ids=["kernel", "plain loops"])
def test_rounding_is_to_nearest_even(native: Any, toolbox: Any, kernels: str, reference: bool) -> None:
    """Every float16, the ties between neighbours, and the float32 next to those on either side; and random bits."""
    every = np.sort(np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float64))
    every = every[np.isfinite(every)]
    ties = ((every[1:] + every[:-1]) / 2).astype(np.float32)
    beyond = np.array([65519.996, 65520, 65521, 1e30, np.inf, np.nan, 2.0**-25, 2.0**-26, 1e-45], np.float32)
    drawn = np.random.default_rng(0).integers(0, 2**32, 20000, np.uint32).view(np.float32)
    one = np.float32(np.inf)
    x = np.concatenate([ties, np.nextafter(ties, one), np.nextafter(ties, -one), beyond, -beyond, drawn])
    found = pass_through(native, toolbox, "reference" if reference else kernels, x, None)
    with np.errstate(over="ignore"):
        assert np.array_equal(found, x.astype(np.float16), equal_nan=True)
        number = ~np.isnan(x)
        assert np.array_equal(np.signbit(found[number]), np.signbit(x[number]))


@settings(max_examples=30)
@given(g=geometries(), seed=st.integers(0, 2**32 - 1))
def test_bits_of_the_accumulator(native: Any, toolbox: Any, kernels: str, g: dict[str, Any], seed: int) -> None:
    case = make_case(toolbox, g)
    generator = np.random.default_rng(seed)
    lower, upper = generator.integers(-40, 40, (2, g["outputs"])).astype(np.int32)
    lower[: g["outputs"] // 4] = np.iinfo(np.int32).min
    case.extra, case.outputs = {"accumulator_lower": lower, "accumulator_upper": upper}, ("bits",)
    sums = np.moveaxis(accumulators(case), 1, -1)
    expected = pack_bits((lower <= sums) & (sums <= upper))
    assert np.array_equal(case.run(native, kernels, g["threads"])["bits"], expected)


@pytest.mark.parametrize("levels", list(Levels))
@pytest.mark.parametrize(
    ("channels", "outputs", "size", "stride"),
    [(64, 64, 56, 1), (64, 48, 56, 2), (128, 96, 28, 2), (512, 64, 7, 1), (256, 48, 14, 1)],
)
def test_layers_of_real_networks(
    native: Any, toolbox: Any, kernels: str, levels: Levels, channels: int, outputs: int, size: int, stride: int
) -> None:
    g = {"batch": 1, "channels": channels, "outputs": outputs, "sizes": (size, size), "kernel": (3, 3), "seed": 0}
    g |= {"strides": (stride,) * 2, "pads": (1,) * 4, "dilations": (1, 1), "group": 1, "pad_value": 0, "levels": levels}
    case = make_case(toolbox, g)
    assert np.array_equal(case.run(native, kernels, 2)["y"], accumulators(case))


@pytest.mark.parametrize("channels", [4, 24, 45, 191, 192, 195, 1128, 1152, 1200, 65500])
def test_greatest_counts(native: Any, toolbox: Any, kernels: str, channels: int) -> None:
    """All bits differ for some outputs, none for others: what sums of a few bits must hold, of both of a pair."""
    signs = np.array([1, 1, -1, 1, 1, -1, -1, -1, 1, -1], np.int8)
    weight = np.broadcast_to(signs[:, None, None, None], (len(signs), channels, 1, 1))
    x = np.ones((1, channels, 1, 70), np.int8)
    x[..., ::3] = -1
    case = toolbox.ConvCase(Levels.BIPOLAR, x, np.ascontiguousarray(weight))
    case.extra = {"scale": np.ones(len(signs), np.float32), "bias": np.zeros(len(signs), np.float32)}
    expected = channels * signs[:, None, None].astype(np.int32) * x[:, :1].astype(np.int32)
    assert np.array_equal(case.run(native, kernels)["y"], expected)


def test_sums_beyond_16_bits(native: Any, toolbox: Any, kernels: str) -> None:
    """The greatest sum there can be: more taps than the narrow sums of the table lookup hold."""
    x = np.ones((1, 16384, 5, 5), np.int8)
    case = toolbox.ConvCase(Levels.BIPOLAR, x, -np.ones((2, 16384, 5, 5), np.int8))
    case.extra = {"scale": np.ones(2, np.float32), "bias": np.zeros(2, np.float32)}
    assert case.run(native, kernels)["y"].ravel().tolist() == [-409600.0] * 2


@pytest.mark.parametrize("levels", [Levels.BIPOLAR, Levels.UNIPOLAR])
def test_unused_bits_do_not_count(native: Any, toolbox: Any, kernels: str, levels: Levels) -> None:
    """33 channels, and rubbish in the 31 bits that are left of the second word."""
    generator = np.random.default_rng(0)
    x = toolbox.levels(generator, levels, (1, 33, 4, 4))
    case = toolbox.ConvCase(levels, x, toolbox.levels(generator, Levels.BIPOLAR, (3, 33, 3, 3)), dirty=True)
    case.extra = {"scale": np.ones(3, np.float32), "bias": np.zeros(3, np.float32)}
    assert np.array_equal(case.run(native, kernels)["y"], accumulators(case))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"group": 2}, "33 channels do not divide into 2 groups"),
        ({"strides": (0, 1)}, "attribute strides is 0"),
        ({"pads": (0, -1, 0, 0)}, "attribute pads is -1"),
        ({"dilations": (1, 2**40)}, "attribute dilations is 1099511627776"),
        ({"dilations": (9, 1)}, "the kernel spans 19 pixels of height, but the padded input has 4"),
        ({"pad_value": 2}, "attribute pad_value is 2, wanted -1, 0 or 1"),
    ],
)
def test_refusals_name_both_values(native: Any, toolbox: Any, change: dict[str, Any], message: str) -> None:
    x, weight = np.ones((1, 33, 4, 4), np.int8), np.ones((2, 33, 3, 3), np.int8)
    case = toolbox.ConvCase(Levels.BIPOLAR, x, weight)
    good = case.out_shape()
    for name, value in change.items():
        setattr(case, name, value)
    case.out_shape = lambda: good
    with pytest.raises(toolbox.NativeError, match=message):
        case.run(native, "scalar")


def test_unknown_kernels_are_refused_with_those_there_are(native: Any, toolbox: Any) -> None:
    case = toolbox.ConvCase(Levels.BIPOLAR, np.ones((1, 1, 1, 1), np.int8), np.ones((1, 1, 1, 1), np.int8))
    with pytest.raises(toolbox.NativeError, match=r"'mmx' are not available here, wanted one of: .*scalar"):
        case.run(native, "mmx")
