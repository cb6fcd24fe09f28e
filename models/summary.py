"""How large the networks of the zoo are, counted without allocating one."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import nn

from bnn_deploy import nn as bnn

from . import ZooEntry, find


def function_of(entry: ZooEntry, name: str) -> Callable[..., Any]:
    """A function of the entry's family: the one in `factory` or `configure`."""
    function: Callable[..., Any] = getattr(import_module(f".{entry.family}", __package__), name)
    return function


def build(entry: ZooEntry, **kwargs: Any) -> nn.Module:
    """Calls the entry's factory; `kwargs` go over the entry's own."""
    model: nn.Module = function_of(entry, entry.factory)(**{**entry.kwargs, **kwargs})
    return model


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """(all parameters, those of them that are binarised)."""
    binary = sum(
        part.weight.numel()
        for part in model.modules()
        if isinstance(part, bnn.LatentWeightLayer) and part.config.weight_spec() is not None
    )
    return sum(parameter.numel() for parameter in model.parameters()), binary


def describe(name: str) -> dict[str, Any]:
    """What the zoo's list shows of one name.

    Returns:
        `name`, `input_shape` (C, H, W), `parameters`, `binary_parameters`, `one_bit_share` (of the parameters, 0 to 1),
        `weights` (the shipped file's name or None), `source` and `description`.

    Raises:
        InputRefused: No such name.
    """
    entry = find(name)
    with torch.device("meta"):
        parameters, binary = count_parameters(build(entry))
    return {
        "name": entry.name,
        "input_shape": entry.input_shape,
        "parameters": parameters,
        "binary_parameters": binary,
        "one_bit_share": binary / parameters,
        "weights": entry.weights,
        "source": entry.source,
        "description": entry.description,
    }
