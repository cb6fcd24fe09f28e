"""Optimisation profiles: the range of every free size that an engine serves, and the size that it is fastest at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import onnx

from bnn_deploy.errors import InputRefused

Shape = tuple[int, ...]


@dataclass(frozen=True)
class SizeRange:
    """The sizes of one axis.

    Args:
        minimum: The smallest that the engine takes.
        optimum: The one that it is built for.
        maximum: The largest.

    Raises:
        InputRefused: They are not in that order, or not positive.
    """

    minimum: int
    optimum: int
    maximum: int

    def __post_init__(self) -> None:
        if not 0 < self.minimum <= self.optimum <= self.maximum:
            found = f"{self.minimum}, {self.optimum}, {self.maximum}"
            raise InputRefused("a profile", f"sizes {found}", "minimum <= optimum <= maximum, all of them positive")


Profile = Mapping[str, SizeRange]
"""Name of a free axis (`batch`) -> its sizes."""


@dataclass(frozen=True)
class InputShapes:
    """The three shapes of one input in one profile."""

    minimum: Shape
    optimum: Shape
    maximum: Shape


def free_axes(model: onnx.ModelProto) -> dict[str, list[str]]:
    """Name of each free axis -> the inputs that have it. One that the file does not name is `input[index]`."""
    found: dict[str, list[str]] = {}
    for name, axes in input_axes(model).items():
        for axis in axes:
            if isinstance(axis, str):
                found.setdefault(axis, []).append(name)
    return found


def input_axes(model: onnx.ModelProto) -> dict[str, tuple[int | str, ...]]:
    """Input name -> of each axis its size, or its name where that is free."""
    return {value.name: tuple(_axes(value)) for value in model_inputs(model)}


def input_shapes(model: onnx.ModelProto, profile: Profile) -> dict[str, InputShapes]:
    """Input name -> its shapes under `profile`, for the inputs that have a free axis.

    Raises:
        InputRefused: An axis is free and not in the profile, or in the profile and not free.
    """
    free = free_axes(model)
    missing, unknown = [axis for axis in free if axis not in profile], [axis for axis in profile if axis not in free]
    if unknown:
        found = f"the model has no free axis of that name; free are: {', '.join(free) or 'none'}"
        raise InputRefused(f"a profile for `{unknown[0]}`", found)
    if missing:
        where = f"axis `{missing[0]}` of input {free[missing[0]][0]}"
        found = "its size is free, and the profile does not bound it"
        raise InputRefused(where, found, "its smallest size, the one to be fastest at, and its largest")
    return {
        name: InputShapes(
            *(
                tuple(axis if isinstance(axis, int) else getattr(profile[axis], which) for axis in axes)
                for which in ("minimum", "optimum", "maximum")
            )
        )
        for name, axes in input_axes(model).items()
        if any(isinstance(axis, str) for axis in axes)
    }


def model_inputs(model: onnx.ModelProto) -> Iterator[onnx.ValueInfoProto]:
    """The inputs that are fed, in order: older files list their weights among them."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return (value for value in model.graph.input if value.name not in weights)


def _axes(value: onnx.ValueInfoProto) -> list[int | str]:
    dimensions = value.type.tensor_type.shape.dim
    return [
        dimension.dim_value if dimension.HasField("dim_value") else dimension.dim_param or f"{value.name}[{index}]"
        for index, dimension in enumerate(dimensions)
    ]
