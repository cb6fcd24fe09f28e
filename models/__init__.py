"""The catalogue of the zoo: which networks there are, without importing any of them, nor torch.

A family is one file of this package. An entry names a factory in it; called with the entry's keyword arguments, it
returns a network whose attribute `input_shape` is the (C, H, W) that it was made for.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from bnn_deploy.errors import InputRefused

Shape = tuple[int, int, int]

IMAGENET: Final[Shape] = (3, 224, 224)
SMALL_IMAGE: Final[Shape] = (3, 32, 32)
WEIGHTS_FOLDER: Final = Path(__file__).parent / "weights"

_BIREAL_NET: Final = "Bi-Real Net, arXiv:1808.00278"
_REACTNET: Final = "ReActNet, arXiv:2003.03488"


@dataclass(frozen=True)
class ZooEntry:
    """One name of the zoo.

    Args:
        name: What the user types.
        family: The module of this package that has the factory.
        factory: The function's name there.
        input_shape: (C, H, W) of what the factory makes with `kwargs`.
        source: The paper.
        description: One line.
        weights: The file of trained weights in `weights/`, where the entry ships with one.
        configure: A function of the family that reads a checkpoint's keys and shapes and returns the factory's
            keyword arguments; None where the checkpoint has no say.
        kwargs: Keyword arguments of the factory.
    """

    name: str
    family: str
    factory: str
    input_shape: Shape
    source: str
    description: str
    weights: str | None = None
    configure: str | None = None
    kwargs: MappingProxyType[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def weights_path(self) -> Path | None:
        """Where the shipped weights lie; None where there are none."""
        return None if self.weights is None else WEIGHTS_FOLDER / self.weights


def _entries() -> tuple[ZooEntry, ...]:
    return (
        ZooEntry(
            "birealnet",
            "birealnet",
            "birealnet",
            SMALL_IMAGE,
            _BIREAL_NET,
            "Bi-Real Net for handwritten digits; with a checkpoint, the variant that its keys and shapes say",
            weights="birealnet.safetensors",
            configure="configuration_of",
        ),
        ZooEntry("birealnet18", "birealnet", "birealnet18", IMAGENET, _BIREAL_NET, "Bi-Real Net, 18 layers"),
        ZooEntry("birealnet34", "birealnet", "birealnet34", IMAGENET, _BIREAL_NET, "Bi-Real Net, 34 layers"),
        ZooEntry(
            "xnor_resnet18",
            "xnor_resnet",
            "xnor_resnet18",
            IMAGENET,
            "XNOR-Net, arXiv:1603.05279",
            "ResNet-18 of BatchNorm, sign, binary convolution, ReLU, with a skip over each convolution",
        ),
        ZooEntry(
            "vgg_small",
            "vgg",
            "vgg_small",
            SMALL_IMAGE,
            "BinaryConnect, arXiv:1511.00363",
            "VGG for small images, a quarter as wide; width=1 is the full one",
            weights="vgg_small.safetensors",
        ),
        ZooEntry(
            "nin",
            "nin",
            "nin",
            SMALL_IMAGE,
            "Network In Network, arXiv:1312.4400, binarised as in arXiv:1603.05279",
            "Network-in-network for small images, half as wide; width=1 is the full one",
            weights="nin.safetensors",
        ),
        ZooEntry("reactnet", "reactnet", "reactnet", IMAGENET, _REACTNET, "ReActNet-A, made from MobileNet"),
        ZooEntry(
            "reactnet_resnet18",
            "reactnet",
            "reactnet_resnet18",
            IMAGENET,
            _REACTNET,
            "ReActNet made from Bi-Real Net, 18 layers",
        ),
    )


_CATALOGUE: Final = MappingProxyType({entry.name: entry for entry in _entries()})


def catalogue() -> dict[str, ZooEntry]:
    """All entries by name, in the order in which they are shown."""
    return dict(_CATALOGUE)


def find(name: str) -> ZooEntry:
    """The entry of a name.

    Raises:
        InputRefused: There is none; the message has the names and the closest of them.
    """
    if name in _CATALOGUE:
        return _CATALOGUE[name]
    close = difflib.get_close_matches(name, _CATALOGUE, n=1)
    raise InputRefused(
        f"model {name!r}",
        "no such name in the zoo",
        f"{', '.join(_CATALOGUE)}; path/to/file.py:factory; or package.module:factory",
        f"did you mean {close[0]}?" if close else "",
    )
