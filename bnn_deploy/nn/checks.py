"""Checks of what a user passes to a layer: whole-number pairs when it is made, shapes when it is called."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.jit import is_tracing

from bnn_deploy.errors import InputRefused
from bnn_deploy.nn.functional import Pair

IntOrPair = int | tuple[int, int]


def is_whole(value: object, minimum: int) -> bool:
    """Whether `value` is an integer (not a bool) of at least `minimum`."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= minimum


def check_whole(where: str, name: str, value: object, *, minimum: int = 1) -> None:
    """Raises `InputRefused` unless `value` is an integer of at least `minimum`."""
    if not is_whole(value, minimum):
        raise InputRefused(where, f"{name}={value!r}", f"a whole number of at least {minimum}")


def as_pair(where: str, name: str, value: object, *, minimum: int) -> Pair:
    """`value`, an integer or a pair, as (vertical, horizontal).

    Raises:
        InputRefused: `value` is neither, or less than `minimum`.
    """
    pair = value if isinstance(value, tuple | list) else (value, value)
    if len(pair) == 2 and is_whole(pair[0], minimum) and is_whole(pair[1], minimum):
        return pair[0], pair[1]
    fix = ""
    if isinstance(value, str):
        fix = f"write {name} in pixels; kernel_size // 2 keeps the size at stride 1 where the kernel is odd"
    raise InputRefused(where, f"{name}={value!r}", f"a whole number of at least {minimum}, or a pair of them", fix)


def is_recording() -> bool:
    """Whether a tracer or compiler follows this forward, so that sizes may be symbolic."""
    return is_tracing() or torch.compiler.is_compiling()


def check_feature_map(where: str, x: Tensor, channels: int) -> None:
    """Raises `InputRefused` unless x is [N, channels, H, W].

    The older exporter's tracer gives sizes as tensors, whose comparison would be recorded as a constant; there the
    check is left out. `torch.export` gives them as numbers.
    """
    if is_tracing():
        return
    if x.dim() != 4:
        raise InputRefused(
            where,
            f"an input of shape {list(x.shape)}",
            f"[N, {channels}, H, W]",
            "add the batch axis with x.unsqueeze(0)",
        )
    if x.shape[1] != channels:
        raise InputRefused(
            where,
            f"an input of shape {list(x.shape)}, which has {x.shape[1]} channels",
            f"{channels} channels: [N, {channels}, H, W]",
            "check the layer before it, or the channel count that this one was made with",
        )


def check_features(where: str, x: Tensor, features: int) -> None:
    """Raises `InputRefused` unless x is [..., features]; silent where `check_feature_map` is."""
    if is_tracing():
        return
    if x.dim() == 0 or x.shape[-1] != features:
        raise InputRefused(
            where,
            f"an input of shape {list(x.shape)}",
            f"{features} features on the last axis: [..., {features}]",
            "flatten feature maps with x.flatten(1) first, or check the layer before it",
        )
