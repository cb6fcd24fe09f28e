"""Changing what sign(0) is in a model that is already built."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from bnn_deploy.nn.binarize import BinarizeConfig
from bnn_deploy.nn.functional import ZERO_KINDS, check_choice
from bnn_deploy.nn.layer import BinaryLayer


def set_sign_zero(model: nn.Module, zero: str) -> int:
    """Makes every binary layer of `model` take sign(0) for `zero`, in place.

    A network trained with `torch.sign` has sign(0) = 0 and so is ternary wherever an input can be exactly 0; with
    `"one"` it becomes truly 1-bit, and differs from the trained one at exact zeros only.

    Args:
        model: Any module.
        zero: `"one"` or `"zero"`.

    Returns:
        How many layers changed.

    Raises:
        InputRefused: Another `zero`.
    """
    check_choice("set_sign_zero", "zero", zero, ZERO_KINDS)
    changed = 0
    for module in model.modules():
        if not isinstance(module, BinaryLayer):
            continue
        config = getattr(module, "config", None)
        if isinstance(config, BinarizeConfig) and config.zero != zero:
            setattr(module, "config", replace(config, zero=zero))  # noqa: B010 - a Module's attributes are typed as tensors
            changed += 1
        if getattr(module, "zero", zero) != zero:
            setattr(module, "zero", zero)  # noqa: B010
            changed += 1
    return changed
