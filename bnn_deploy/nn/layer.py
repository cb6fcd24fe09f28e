"""What every module of this package that binarises has in common: a name that travels into the ONNX file."""

from __future__ import annotations

from torch import nn


class BinaryLayer(nn.Module):
    """A module that emits ops of ours when exported.

    `layer_name` is empty until `name_layers` fills it; messages, reports and ONNX nodes carry it.
    """

    layer_name: str = ""

    def where(self) -> str:
        """The layer for an error message: its name in the model, or its class before it has one."""
        return self.layer_name or type(self).__name__


def name_layers(model: nn.Module) -> None:
    """Gives every `BinaryLayer` of `model` its dotted path as `layer_name`."""
    for name, module in model.named_modules():
        if isinstance(module, BinaryLayer):
            module.layer_name = name or type(module).__name__
