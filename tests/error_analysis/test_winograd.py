"""The bound holds for the algorithm as float32 computes it, and is that of a direct sum everywhere else."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from bnn_deploy.error_analysis import winograd
from bnn_deploy.error_analysis.bounded import ROUNDINGS, BoundedTensor, Ledger

Float32 = NDArray[np.float32]
AT, G, BT = (np.array(matrix, np.float64) for matrix in winograd.transforms())
U = 2.0**-24
PARITIES = [(0, 0), (0, 1), (1, 0), (1, 1)]


def analysed(
    x: Tensor, weight: Tensor, precision: str = "fp32", error: Tensor | None = None, **geometry: int
) -> Tensor:
    bound = torch.zeros_like(x, dtype=torch.float64) if error is None else error
    with torch.no_grad():
        found = F.conv2d(BoundedTensor(x.double(), bound, Ledger(ROUNDINGS[precision])), weight, **geometry)
    assert isinstance(found, BoundedTensor)
    torch.testing.assert_close(found.value, F.conv2d(x.double(), weight.double(), **geometry))
    return found.bound


def direct(x: Tensor, weight: Tensor, precision: str = "fp32", **geometry: int) -> Tensor:
    """gamma_(K + 4) conv(|x|, |w|), and K results that may underflow."""
    rounding, terms = ROUNDINGS[precision], weight[0].numel()
    magnitude = F.conv2d(x.double().abs(), weight.double().abs(), **geometry)
    return rounding.gamma(terms + 4) * magnitude + terms * rounding.smallest


def simulated(x: Float32, weight: Float32, padding: int, fused: bool) -> Float32:
    """[N, C, H, W], [O, C, KH, KW] -> [N, O, OH, OW]: the algorithm in float32, every sum one after the other."""
    outputs, channels, height, width = weight.shape
    rows, columns = (
        (size + 2 * padding - kernel) // 2 + 1 for size, kernel in zip(x.shape[2:], weight.shape[2:], strict=True)
    )
    down, across = -(-rows // 4), -(-columns // 4)
    padded = np.zeros((len(x), channels, x.shape[2] + 2 * padding + 14, x.shape[3] + 2 * padding + 14), np.float32)
    padded[:, :, padding : padding + x.shape[2], padding : padding + x.shape[3]] = x
    windows = np.lib.stride_tricks.sliding_window_view(padded, (14, 14), (2, 3))[:, :, ::8, ::8][:, :, :down, :across]
    kernels = np.zeros((outputs, channels, 8, 8))
    kernels[:, :, :height, :width] = weight
    m = np.zeros((7, 7, outputs, len(x), down, across), np.float32)
    for channel, p, q in product(range(channels), range(2), range(2)):
        v = both(BT, windows[:, channel, :, :, p::2, q::2].transpose(3, 4, 0, 1, 2))
        u = (G @ kernels[:, channel, p::2, q::2] @ G.T).astype(np.float32).transpose(1, 2, 0)[..., None, None, None]
        m = fma(u, v[:, :, None], m) if fused else m + u * v[:, :, None]
    y = both(AT, m).transpose(3, 2, 4, 0, 5, 1).reshape(len(x), outputs, 4 * down, 4 * across)
    return y[:, :, :rows, :columns]


def fma(a: Float32, b: Float32, c: Float32) -> Float32:
    return (a.astype(np.float64) * b + c).astype(np.float32)


def both(matrix: NDArray[np.float64], d: Float32) -> Float32:
    """Along the first axis, then along the second."""
    for _ in range(2):
        result = np.zeros((len(matrix), *d.shape[1:]), np.float32)
        for coefficients, part in zip(matrix.T.astype(np.float32), d, strict=True):
            result = result + np.multiply.outer(coefficients, part)
        d = result.swapaxes(0, 1)
    return d


def randoms(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def impulse(x: Tensor) -> Tensor:
    x = 1e-3 * x
    x[:, :, x.shape[2] // 2, x.shape[3] // 2] = 1e4
    return x


def checkerboard(x: Tensor) -> Tensor:
    rows, columns = (torch.arange(size) for size in x.shape[2:])
    return (1 - 2.0 * ((rows[:, None] + columns) % 2)).expand_as(x).clone()


INPUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "random": lambda x: x,
    "all of one sign": lambda x: 1 + x.abs() % 1,
    "an impulse": impulse,
    "a checkerboard": checkerboard,
    "of 30 magnitudes": lambda x: x * 10 ** (30 * torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) - 25),
    "large": lambda x: x * 2.0**60,
    "nearly denormal": lambda x: x * 1e-37,
    "denormal": lambda x: x * 1e-43,
    "zeros": lambda x: 0 * x,
}


def error(x: Tensor, weight: Tensor, padding: int, fused: bool) -> Tensor:
    exact = F.conv2d(x.double(), weight.double(), stride=2, padding=padding)
    return (torch.from_numpy(simulated(x.numpy(), weight.numpy(), padding, fused)).double() - exact).abs()


def test_the_transforms_make_a_correlation_exactly() -> None:
    """The coefficient of g[b] d[j] in y[i] is 1 where j = i + b, and 0 elsewhere: as fractions."""
    at, g, bt = winograd.transforms()
    for i, b, j in product(range(4), range(4), range(7)):
        assert sum(at[i][k] * g[k][b] * bt[k][j] for k in range(7)) == (j == i + b)


def test_coefficients_are_what_roundings_are_counted_for() -> None:
    """Those of B^T at most six a row and exact in float32; those of A^T at most six, and powers of two."""
    assert (BT.astype(np.float32) == BT).all() and ((BT != 0).sum(axis=1) <= 6).all()
    assert set(np.frexp(np.abs(AT[AT != 0]))[0]) == {0.5} and ((AT != 0).sum(axis=1) <= 6).all()


@pytest.mark.parametrize("name", INPUTS)
@settings(max_examples=12, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(1, 2),
    st.sampled_from([1, 2, 3, 16]),
    st.tuples(st.integers(8, 33), st.integers(8, 33)),
    st.tuples(st.sampled_from([7, 8]), st.sampled_from([7, 8])),
    st.integers(0, 4),
    st.booleans(),
)
def test_the_bound_holds(
    name: str,
    seed: int,
    batch: int,
    channels: int,
    size: tuple[int, int],
    kernel: tuple[int, int],
    padding: int,
    fused: bool,
) -> None:
    x = INPUTS[name](randoms(seed, batch, channels, *size))
    weight = randoms(seed + 1, 3, channels, *kernel)
    bound = analysed(x, weight, stride=2, padding=padding)
    assert (error(x, weight, padding, fused) <= bound).all()
    assert (bound >= direct(x, weight, stride=2, padding=padding)).all()
    rounding, exact_weight = ROUNDINGS["fp32"], weight.double()
    alone = winograd.rounding_bound(rounding, x.double().abs(), exact_weight, 0 * exact_weight, (padding, padding), 4)
    magnitude = F.conv2d(x.double().abs(), exact_weight.abs(), stride=2, padding=padding)
    assert (alone >= (1 - 1e-12) * rounding.gamma(4 * channels + 29) * magnitude).all(), "S is below conv(|x|, |w|)"


@pytest.mark.parametrize(("pixel_parity", "tap_parity"), list(product(PARITIES, repeat=2)))
def test_a_pixel_and_a_tap_meet_where_their_parities_are_equal(
    pixel_parity: tuple[int, int], tap_parity: tuple[int, int]
) -> None:
    """In each direction they make the sum over k of |A^T[i, k] G[k, b] B^T[k, m]|: here m, b are (5, 1) and (2, 3)."""
    x, weight = torch.zeros(1, 1, 14, 14), torch.zeros(1, 1, 8, 8)
    x[0, 0, 2 * 5 + pixel_parity[0], 2 * 2 + pixel_parity[1]] = 1
    weight[0, 0, 2 * 1 + tap_parity[0], 2 * 3 + tap_parity[1]] = 1
    down, across = (np.abs(AT) @ (np.abs(G[:, b]) * np.abs(BT[:, m])) for m, b in ((5, 1), (2, 3)))
    expected = ROUNDINGS["fp32"].gamma(4 + 25 + 4) * np.outer(down, across) * (pixel_parity == tap_parity)
    expected = torch.maximum(torch.from_numpy(expected), direct(x, weight, stride=2)[0, 0])
    torch.testing.assert_close(analysed(x, weight, stride=2)[0, 0], expected, rtol=1e-5, atol=1e-30)


@pytest.mark.parametrize(("of_x", "of_weight"), [(-44, 3), (-43, 20), (3, -44), (15, -43), (-22, -23), (-10, -34)])
def test_the_bound_holds_where_results_underflow(of_x: int, of_weight: int) -> None:
    x, weight = (randoms(seed, 4, 1, size, size) for seed, size in ((0, 30), (1, 7)))
    x, weight = ((10.0**exponent * each.double()).float() for exponent, each in ((of_x, x), (of_weight, weight)))
    assert (error(x, weight, 3, True) <= analysed(x, weight, stride=2, padding=3)).all()


@pytest.mark.parametrize("exponent", [-30, 0, 30])
def test_the_bound_holds_for_weights_of_any_size(exponent: int) -> None:
    x, weight = randoms(0, 2, 3, 21, 30), randoms(1, 8, 3, 7, 7) * 10.0**exponent
    weight[0], weight[1, :, 3:], weight[2, 1] = 0, 0, 1e-40
    assert (error(x, weight, 3, False) <= analysed(x, weight, stride=2, padding=3)).all()


def test_the_bound_holds_where_weights_cancel_in_the_transform() -> None:
    """U is 0 but for the rounding of a weight: what that leaves is multiplied by large values."""
    x, kernel = randoms(0, 1, 3, 40, 40), torch.zeros(1, 3, 8, 8)
    kernel[..., ::2, :] = torch.tensor([1.0, 0.0, -1.0, 0.0]).reshape(4, 1)
    kernel = kernel * (1 + U * randoms(2, *kernel.shape))
    assert (error(x, kernel, 3, False) <= analysed(x, kernel, stride=2, padding=3)).all()


def test_the_bound_holds_with_a_scale_folded_into_the_weights() -> None:
    x, weight = randoms(0, 2, 3, 32, 32), randoms(1, 8, 3, 7, 7)
    scale = randoms(2, 8, 1, 1, 1).double()
    folded = (weight * scale.float()).numpy()
    found = torch.from_numpy(simulated(x.numpy(), folded, 3, False)).double() / scale[:, 0]
    exact = F.conv2d(x.double(), weight.double(), stride=2, padding=3)
    assert ((found - exact).abs() <= analysed(x, weight, stride=2, padding=3)).all()


def test_an_error_of_the_input_is_carried_as_by_any_convolution() -> None:
    x, weight = randoms(0, 1, 3, 32, 32), randoms(1, 8, 3, 7, 7)
    moved = x + 0.01 * x.abs() * torch.sign(randoms(2, *x.shape))
    doubt = (moved.double() - x.double()).abs()
    bound = analysed(x, weight, error=doubt, stride=2, padding=3)
    exact = F.conv2d(x.double(), weight.double(), stride=2, padding=3)
    found = torch.from_numpy(simulated(moved.numpy(), weight.numpy(), 3, False)).double()
    assert ((found - exact).abs() <= bound).all()
    carried = F.conv2d(doubt, weight.double().abs(), stride=2, padding=3)
    rounded = analysed(x.abs() + doubt.float(), weight, stride=2, padding=3)
    torch.testing.assert_close(bound, carried + rounded, rtol=1e-6, atol=0)


def test_an_error_of_the_weights_is_carried_as_well() -> None:
    x, weight = randoms(0, 1, 3, 32, 32), randoms(1, 8, 3, 7, 7)
    moved = (weight + 0.1 * randoms(2, *weight.shape)).numpy()
    doubt = (torch.from_numpy(moved).double() - weight.double()).abs()
    ledger = Ledger(ROUNDINGS["fp32"])
    with torch.no_grad():
        uncertain = BoundedTensor(weight.double(), doubt, ledger)
        found = F.conv2d(BoundedTensor(x.double(), 0 * x.double(), ledger), uncertain, stride=2, padding=3)
    computed = torch.from_numpy(simulated(x.numpy(), moved, 3, False)).double()
    assert ((computed - found.value).abs() <= found.bound).all()
    certain = analysed(x, torch.from_numpy(moved), stride=2, padding=3)
    carried = F.conv2d(x.double().abs(), doubt, stride=2, padding=3)
    assert (found.bound >= (carried + certain) * (1 - 1e-5)).all()


def test_an_error_reaches_the_whole_tile() -> None:
    """A large value outside of an output's window rounds it all the same, which a direct sum's bound does not know."""
    x, weight = 1e-3 * randoms(0, 1, 1, 32, 32), randoms(1, 4, 1, 7, 7)
    x[:, :, 10, 10] = 1e4
    found, bound, local = error(x, weight, 0, False), analysed(x, weight, stride=2), direct(x, weight, stride=2)
    # Outputs 2 to 5 see the pixel, the tiles of outputs 0 to 7 read it.
    assert (found > 100 * local)[:, :, 6:8, 6:8].any() and (found > 100 * local)[:, :, :2, :2].any()
    assert (found <= bound).all()
    assert (bound < 100 * local)[:, :, 8:, 8:].all()


def test_what_is_unknown_leaves_its_tiles_unknown() -> None:
    x, weight = randoms(0, 2, 2, 40, 40), randoms(1, 4, 2, 7, 7)
    x[1, 0, 20, 20] = float("nan")
    with torch.no_grad():
        found = F.conv2d(BoundedTensor(x.double(), 0 * x.double(), Ledger(ROUNDINGS["fp32"])), weight, None, 2)
    unknown = found.bound.isnan()
    assert unknown[1, :, 4:12, 4:12].all() and unknown.sum() == 4 * 8 * 8


def test_it_is_not_far_above_that_of_a_direct_sum() -> None:
    x, weight = randoms(0, 2, 3, 64, 64), randoms(1, 16, 3, 7, 7)
    ratio = analysed(x, weight, stride=2, padding=3) / direct(x, weight, stride=2, padding=3)
    assert ratio.min() > 3 and 10 < ratio.mean() < 20 and ratio.max() < 100


def test_a_large_image_is_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight = randoms(0, 2, 3, 45, 37), randoms(1, 8, 3, 7, 7)
    whole = analysed(x, weight, stride=2, padding=3)
    monkeypatch.setattr(winograd, "_CHUNK", 49 * 8 * 7)
    torch.testing.assert_close(analysed(x, weight, stride=2, padding=3), whole, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("channels", "kernel", "precision", "geometry"),
    [
        (3, (3, 3), "fp32", {"stride": 2}),
        (3, (7, 9), "fp32", {"stride": 2}),
        (3, (7, 7), "fp32", {"stride": 1}),
        (3, (7, 7), "fp32", {"stride": (2, 1)}),
        (3, (7, 7), "fp32", {"stride": 2, "dilation": 2}),
        (4, (7, 7), "fp32", {"stride": 2, "groups": 2}),
        (17, (7, 7), "fp32", {"stride": 2}),
        (3, (7, 7), "fp16", {"stride": 2, "padding": 3}),
    ],
)
def test_other_convolutions_keep_their_bound(
    channels: int, kernel: tuple[int, int], precision: str, geometry: dict[str, int]
) -> None:
    x, weight = randoms(0, 1, channels, 20, 20), randoms(1, 4, channels // geometry.get("groups", 1), *kernel)
    if precision == "fp16":
        weight = weight.half().float()
    expected = direct(x, weight, precision, **geometry)
    torch.testing.assert_close(analysed(x, weight, precision, **geometry), expected, rtol=1e-12, atol=0)


def test_a_transposed_convolution_and_one_of_a_sequence_keep_theirs() -> None:
    x, weight, sequences = randoms(0, 1, 3, 12, 12), randoms(1, 3, 4, 7, 7), randoms(2, 4, 12, 7)
    with torch.no_grad():
        ledger = Ledger(ROUNDINGS["fp32"])
        image = F.conv_transpose2d(BoundedTensor(x.double(), 0 * x.double(), ledger), weight, stride=2)
        sequence = F.conv1d(BoundedTensor(x[0].double(), 0 * x[0].double(), ledger), sequences, stride=2)
    rounding = ROUNDINGS["fp32"]
    expected = F.conv_transpose2d(x.double().abs(), weight.double().abs(), stride=2)
    assert (image.bound < 1.01 * rounding.gamma(3 * 49 + 4) * expected + 1e-40).all()
    expected = F.conv1d(x[0].double().abs(), sequences.double().abs(), stride=2)
    assert (sequence.bound < 1.01 * rounding.gamma(12 * 7 + 4) * expected + 1e-40).all()
