"""The same network in PyTorch, and what a network of its convolutions alone would take.

- `PyTorch float16`: the float twin, node by node, channels last; each node a kernel or two of PyTorch or cuDNN.
- `PyTorch float16, convolutions alone`: the twin's convolutions and fully connected layers and nothing between them,
  each with inputs of its own: what is left where all the rest is fused into them.
- `PyTorch int8 matmuls`: PyTorch has no int8 convolution. A stand-in: for each convolution and fully connected layer
  `torch._int_mm` of the unfolded input, [pixels, taps * channels], with an int32 result, and nothing between them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import onnx
import torch
from network_work import Shapes
from onnx import helper

Run = Callable[[], Any]
FEWEST_ROWS, STEP = 32, 16  # `torch._int_mm` takes more than 16 rows; sizes that every version takes are multiples


@dataclass(frozen=True)
class Product:
    """A convolution of the twin, or a fully connected layer, which is one of 1x1.

    Attributes:
        x: [N, C, H, W].
        weight: [O, C / group, KH, KW].
        y: [N, O, H', W'].
        strides: Vertical, horizontal.
        pads: Likewise, the larger side's where they differ.
    """

    x: tuple[int, ...]
    weight: tuple[int, ...]
    y: tuple[int, ...]
    strides: tuple[int, ...] = (1, 1)
    pads: tuple[int, ...] = (0, 0)
    dilations: tuple[int, ...] = (1, 1)
    group: int = 1

    @property
    def unfolded(self) -> tuple[int, int, int]:
        """Rows, depth and columns of the matrix product of a group, rounded up to what PyTorch takes."""
        sizes = (self.y[0] * prod(self.y[2:]), prod(self.weight[1:]), self.weight[0] // self.group)
        rows, depth, columns = (-(-size // STEP) * STEP for size in sizes)
        return max(rows, FEWEST_ROWS), depth, columns


def products(twin: onnx.ModelProto, shapes: Shapes) -> Iterator[Product]:
    """All that multiplies, in order."""
    for node in twin.graph.node:
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        if node.op_type == "Gemm":
            batch, depth = shapes[node.input[0]][0]
            outputs = shapes[node.output[0]][0][1]
            yield Product((batch, depth, 1, 1), (outputs, depth, 1, 1), (batch, outputs, 1, 1))
        elif node.op_type == "Conv":
            x, weight, y = (shapes[name][0] for name in (node.input[0], node.input[1], node.output[0]))
            pads = attributes.get("pads", (0, 0, 0, 0))
            yield Product(
                x,
                weight,
                y,
                tuple(attributes.get("strides", (1, 1))),
                tuple(max(pair) for pair in zip(pads[:2], pads[2:], strict=True)),
                tuple(attributes.get("dilations", (1, 1))),
                attributes.get("group", 1),
            )


def convolutions_alone(all_products: list[Product], device: str) -> Run:
    """Runs every convolution, in float16 channels last."""

    def values(shape: tuple[int, ...]) -> Any:
        drawn = torch.randn(shape, device=device, dtype=torch.float16)
        return drawn.contiguous(memory_format=torch.channels_last)

    operands = [(values(one.x), values(one.weight), one) for one in all_products]

    def run() -> None:
        for x, weight, one in operands:
            torch.conv2d(x, weight, None, one.strides, one.pads, one.dilations, one.group)

    return run


def int8_matmuls(all_products: list[Product], device: str) -> Run:
    """Runs every unfolded matrix product; the groups of a convolution one by one."""

    def values(rows: int, columns: int) -> Any:
        return torch.randint(-128, 128, (rows, columns), device=device, dtype=torch.int8)

    sizes = [one.unfolded for one in all_products for _ in range(one.group)]
    # One matrix a shape: unfolded, the inputs of a large batch would fill the memory.
    unfolded = {size[:2]: values(*size[:2]) for size in sizes}
    operands = [(unfolded[rows, depth], values(columns, depth).t()) for rows, depth, columns in sizes]

    def run() -> None:
        for a, b in operands:
            torch._int_mm(a, b)

    return run
