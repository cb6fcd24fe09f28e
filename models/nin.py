"""The binary network-in-network; `bnn_deploy.nn.NIN` has the layers.

Papers: Network In Network, arXiv:1312.4400; XNOR-Net, arXiv:1603.05279.
"""

from __future__ import annotations

from bnn_deploy import nn as bnn

from . import SMALL_IMAGE, Shape


class SmallImageNIN(bnn.NIN):
    """`NIN`, and the input that it is made for.

    Args:
        num_classes: Logits.
        width: Multiplies the channels of every layer.
        in_channels: Channels of the image.
        zero: What sign(0) is: `"one"` or `"zero"`.
    """

    def __init__(self, num_classes: int = 10, *, width: float = 1.0, in_channels: int = 3, zero: str = "one") -> None:
        super().__init__(num_classes, width=width, in_channels=in_channels, config=bnn.BinarizeConfig(zero=zero))
        self.input_shape: Shape = (in_channels, *SMALL_IMAGE[1:])


def nin(*, num_classes: int = 10, width: float = 0.5, in_channels: int = 3, zero: str = "one") -> SmallImageNIN:
    """Network-in-network, by default as narrow as it ships trained; the arguments are those of `SmallImageNIN`."""
    return SmallImageNIN(num_classes, width=width, in_channels=in_channels, zero=zero)
