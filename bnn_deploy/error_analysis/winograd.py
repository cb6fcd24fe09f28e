"""How far rounding takes a convolution of stride 2 that the native library computes by the Winograd algorithm: a stem.

A kernel of 7x7 or 8x8 is taken apart into four of 4x4 and stride 1, one for each parity of row and column (zeros where
it ends). With x padded:

    X[c, p, q][i][j] = x[c][2i + p][2j + q]        g[o, c, p, q][a][b] = w[o, c][2a + p][2b + q]
    y[o][i][j] = sum over c, p, q, a, b of g[a][b] X[i + a][j + b]

A tile of 4x4 outputs, the first of them at a multiple of 4, reads d, 7x7 values of each X; they make it by F(4x4, 4x4)
at the points 0, 1, -1, 2, -2, -1/2 and infinity (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks",
2016):

    V = B^T d B,    U = G g G^T,    M = sum over the 4C (c, p, q) of U V, element by element,    y = A^T M A

A term of the sum y, written out, is rounded at most

    12 times in V: a product and five sums in either direction, for a row of B^T has six coefficients that are not 0
     1 time  in U: computed in float64, and rounded
    4C times in M: a product and 4C - 1 sums
    12 times in y: the products with powers of two are exact, but may be done in parts

in whatever order is added, with fused multiply-adds or without, and no partial result is larger than its terms'
magnitudes. So with d and g of magnitudes |x| + e_x and |w| + e_w

    |y' - y| <= gamma_(4C + 25) S,    S = |A^T| (sum of |U| (|B^T| |d| |B|)) |A|

which is larger than a direct sum's bound where large values are: an error does not stay within its window, but reaches
the tile. S >= conv(|x|, |w|), for in one dimension |g[j - i]| = |sum over k of A[k, i] (G g)[k] B[j, k]|; so roundings
of the weights before all that, and of a bias, count in the same gamma.

Two terms are small. U is of weights that may be off, by e_w or a folded scale, and float64 rounds as well: |U| is
taken with |G| (e_w + 2^-20 (|w| + e_w)) |G^T| more. And a product may underflow, by half the smallest subnormal s: in V
and U by less than if |d| and |U| were larger by 256 s / u, in M and y by less than (4C + 2) s times |A^T| |A|.
Overflow is left out: the library computes directly where inputs are above 2^64 or weights above 2^30 / C.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from bnn_deploy import opset
from bnn_deploy.error_analysis.bounded import Rounding

Matrix = list[list[Fraction]]

TILE, TAPS, STRIDE = 4, 4, 2
POINTS = tuple(Fraction(point) for point in ("0", "1", "-1", "2", "-2", "-1/2"))
_READ = TILE + TAPS - 1  # rows of each X, and points with infinity
_TRANSFORM_ROUNDINGS = 6  # in one direction
_WEIGHT_SLACK = 2.0**-20  # 16 u: 3 for a folded scale, and far less for the roundings of float64, some 20 of 2^-53
_UNDERFLOW_SLACK = 2.0**8
_CHUNK = 2**23  # elements of M at a time: 64 MiB


def transforms() -> tuple[Matrix, Matrix, Matrix]:
    """A^T [4, 7], G [7, 4] and B^T [7, 7]: sum over b of g[b] d[i + b] = (A^T ((G g) * (B^T d)))[i], exactly.

    B^T has a row for each point, the coefficients of the product of (x - q) over all the other points q, and for
    infinity over all points, lowest power first.
    """
    others = [[q for q in POINTS if q != p] for p in POINTS]
    at = [[p**power for p in POINTS] + [Fraction(power == TILE - 1)] for power in range(TILE)]
    scales = [1 / prod((p - q for q in rest), start=Fraction(1)) for p, rest in zip(POINTS, others, strict=True)]
    g = [[scale * p**power for power in range(TAPS)] for p, scale in zip(POINTS, scales, strict=True)]
    g.append([Fraction(power == TAPS - 1) for power in range(TAPS)])
    return at, g, [_coefficients(roots) for roots in (*others, POINTS)]


def _coefficients(roots: Sequence[Fraction]) -> list[Fraction]:
    """Of the product of (x - root), lowest power first, filled up with zeros."""
    polynomial = [Fraction(1)] + [Fraction(0)] * (_READ - 1)
    for root in roots:
        polynomial = [low - root * same for low, same in zip([Fraction(0), *polynomial], polynomial, strict=False)]
    return polynomial


@cache
def _both_directions() -> tuple[Tensor, Tensor, Tensor]:
    """A^T, G and B^T, each as the Kronecker product with itself, float64: [16, 49], [49, 16] and [49, 49]."""
    rows = ([[float(x) for x in row] for row in matrix] for matrix in transforms())
    at, g, bt = (torch.kron(each, each) for each in (torch.tensor(matrix, dtype=torch.float64) for matrix in rows))
    return at, g, bt


def serves(weight: Sequence[int], stride: Sequence[int], dilation: Sequence[int], groups: int) -> bool:
    """Whether a convolution, not transposed, is one that the library computes so. weight: [O, C, KH, KW]."""
    return (
        len(weight) == 4
        and set(weight[2:]) <= set(opset.STEM_KERNELS)
        and weight[1] <= opset.STEM_MOST_CHANNELS
        and (set(stride), set(dilation), groups) == ({STRIDE}, {1}, 1)
    )


def rounding_bound(
    rounding: Rounding, x: Tensor, weight: Tensor, weight_error: Tensor, padding: Sequence[int], further: int
) -> Tensor:
    """What the algorithm's roundings add up to at most.

    Args:
        rounding: Of float32.
        x: [N, C, H, W] float64, magnitudes.
        weight: [O, C, KH, KW] float64.
        weight_error: As `weight`, a bound on how far it is off.
        padding: Rows above and below, columns on the left and right.
        further: Roundings of the weights and the bias besides.

    Returns:
        [N, O, OH, OW] float64. NaN in a tile that reads a value of which nothing is known.
    """
    vertical, horizontal = padding if len(padding) == 2 else (padding[0], padding[0])
    rows, columns = (
        (size + 2 * pad - kernel) // STRIDE + 1
        for size, pad, kernel in zip(x.shape[2:], (vertical, horizontal), weight.shape[2:], strict=True)
    )
    tiny = _UNDERFLOW_SLACK * rounding.smallest / rounding.unit
    at, _, bt = (each.abs() for each in _both_directions())
    u = _transformed_kernels(weight, weight_error) + tiny
    d = _tiles(x, (vertical, horizontal), (-(-rows // TILE), -(-columns // TILE))) + tiny
    products = d.shape[1]
    v = (bt @ d.flatten(1)).reshape(_READ**2, products, -1)
    # M is far larger than all else, so it is made in parts.
    parts = v.split(max(1, _CHUNK // (_READ**2 * len(weight))), dim=2)
    y = torch.cat([(at @ torch.bmm(u, part).flatten(1)).unflatten(1, (len(weight), -1)) for part in parts], dim=2)
    y = y.reshape(TILE, TILE, len(weight), *d.shape[2:]).permute(3, 2, 4, 0, 5, 1).flatten(4).flatten(2, 3)
    underflow = float(at.sum(dim=1).max()) * (products + 2) * rounding.smallest
    gamma = rounding.gamma(products + 4 * _TRANSFORM_ROUNDINGS + 1 + further)
    return gamma * y[:, :, :rows, :columns] + underflow


def _transformed_kernels(weight: Tensor, weight_error: Tensor) -> Tensor:
    """The largest |U| that there can be: [49, O, 4C] float64."""
    _, g, _ = _both_directions()
    doubt = weight_error + _WEIGHT_SLACK * (weight.abs() + weight_error)
    exact, doubt = (_phase_kernels(each) for each in (weight, doubt))
    u = (g @ exact.flatten(1)).abs() + g.abs() @ doubt.flatten(1)
    return u.reshape(_READ**2, *exact.shape[1:])


def _phase_kernels(weight: Tensor) -> Tensor:
    """[O, C, KH, KW] -> [16, O, 4C]: the four kernels of each channel."""
    outputs, channels, height, width = weight.shape
    full = F.pad(weight, (0, STRIDE * TAPS - width, 0, STRIDE * TAPS - height))
    split = full.reshape(outputs, channels, TAPS, STRIDE, TAPS, STRIDE)
    return split.permute(2, 4, 0, 1, 3, 5).reshape(TAPS**2, outputs, -1)


def _tiles(x: Tensor, padding: tuple[int, int], tiles: tuple[int, int]) -> Tensor:
    """[N, C, H, W] -> [49, 4C, N, rows of tiles, columns of tiles]: what each tile reads."""
    (top, left), step, read = padding, STRIDE * TILE, STRIDE * _READ
    below, right = (
        step * (count - 1) + read - size - pad for count, size, pad in zip(tiles, x.shape[2:], padding, strict=True)
    )
    # Negative where the last window ends before the image does; no tile reads that.
    windows = F.pad(x, (left, right, top, below)).unfold(2, read, step).unfold(3, read, step)
    split = windows.reshape(*windows.shape[:4], _READ, STRIDE, _READ, STRIDE)
    return split.permute(4, 6, 1, 5, 7, 0, 2, 3).reshape(_READ**2, STRIDE**2 * x.shape[1], len(x), *tiles)
