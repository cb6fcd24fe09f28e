"""What a layer has to do at least, and how long that takes: no kernel runs much faster than its floor.

    floor = max(bytes / bytes per second, multiply-accumulates / multiply-accumulates per second)

Bytes are those of device memory, each input read once and each output written once. The operands of an epilogue, a few
for each output channel, are left out.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "cpu"))

from layer_models import BIREALNET18, Layer

from bnn_deploy.bits import words_for

# How often each of them stands in Bi-Real-Net-18.
NETWORK: dict[Layer, int] = dict(zip(BIREALNET18, (4, 1, 3, 1, 3, 1, 3), strict=True))
FLOAT16_BYTES, INT8_BYTES = 2, 1


@dataclass(frozen=True)
class Ceilings:
    """What a GPU can do.

    Attributes:
        bytes_per_second: Of device memory, read and written.
        binary_macs_per_second: 1-bit multiply-accumulates of the tensor cores.
        int8_macs_per_second: Those of int8.
    """

    bytes_per_second: float
    binary_macs_per_second: float
    int8_macs_per_second: float


# NVIDIA's data sheet of the H100 SXM: 3.35 TB/s, 1979 * 10^12 dense int8 operations a second, two to a
# multiply-accumulate; the 1-bit instruction of mma.sync does four times as many in a cycle.
H100_DATA_SHEET = Ceilings(3.35e12, 4 * 1979e12 / 2, 1979e12 / 2)


@dataclass(frozen=True)
class Work:
    """Bytes moved and multiply-accumulates done."""

    bytes: int
    macs: int = 0

    def seconds(self, bytes_per_second: float, macs_per_second: float) -> float:
        """The floor."""
        return max(self.bytes / bytes_per_second, self.macs / macs_per_second)


def binary_work(layer: Layer, batch: int, residual_bytes: int = FLOAT16_BYTES) -> Work:
    """A 1-bit layer with its residual: bits, weights and residual in, y and the next layer's bits out.

    residual_bytes: Of a value of the residual and of y.
    """
    pixels = batch * layer.out_size**2
    read = batch * layer.size**2 * 4 * words_for(layer.channels)
    weights = layer.outputs * layer.kernel**2 * 4 * words_for(layer.channels)
    written = pixels * 4 * words_for(layer.outputs)
    return Work(read + weights + written + 2 * pixels * layer.outputs * residual_bytes, batch * layer.products)


def int8_work(layer: Layer, batch: int) -> Work:
    """The same layer with int8 activations, weights and residual."""
    values = batch * (layer.channels * layer.size**2 + 2 * layer.outputs * layer.out_size**2)
    return Work(values + layer.outputs * layer.channels * layer.kernel**2, batch * layer.products)


def pack_work(layer: Layer, batch: int, value_bytes: int) -> Work:
    """Packing the input of a layer: values in, bits out."""
    pixels = batch * layer.size**2
    return Work(pixels * (layer.channels * value_bytes + 4 * words_for(layer.channels)))


def network_floor_us(batch: int, ceilings: Ceilings, residual_bytes: int = FLOAT16_BYTES) -> float:
    """The floors of the 16 convolutions of Bi-Real-Net-18, added up, in microseconds."""
    rates = ceilings.bytes_per_second, ceilings.binary_macs_per_second
    return sum(
        1e6 * count * binary_work(layer, batch, residual_bytes).seconds(*rates) for layer, count in NETWORK.items()
    )
