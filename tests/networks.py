"""Small networks that the tests of several rooms export, each with the shape of its inputs as `shapes`.

`make` seeds them: BatchNorms, biases and scales hold values at which a missing or misplaced use of them shows.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import AvgPool2d, BatchNorm2d, Conv2d, Linear, Module, Parameter

from bnn_deploy import nn
from bnn_deploy.nn.functional import ConvGeometry, WeightBinarization, binarize, binary_conv2d, binary_linear

TERNARY = nn.BinarizeConfig(zero="zero")
FLOAT_ACTIVATIONS = nn.BinarizeConfig(bi_act_method=-1)
FLOAT_WEIGHTS = nn.BinarizeConfig(bi_w_scale=-1)


class Residual(Module):
    """Float stem, a binary residual block, a binary reduction, float head. 34 channels: two words, the last ragged."""

    shapes = ((1, 3, 4, 4),)

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_norm = Conv2d(3, 34, 3, padding=1), BatchNorm2d(34)
        self.first, self.first_norm = nn.BinaryConv2d(34, 34, 3, padding=1), BatchNorm2d(34)
        self.second, self.second_norm = nn.BinaryConv2d(34, 34, 3, stride=2, padding=1), BatchNorm2d(34)
        self.head = Linear(34, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem_norm(self.stem(x))
        x = self.first_norm(self.first(x)) + x
        x = self.second_norm(self.second(x))
        return self.head(x.mean(dim=(2, 3)))


class Spatial(Module):
    """Takes images of any size."""

    shapes = ((1, 3, 8, 10),)

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.pool = Conv2d(3, 6, 3, padding=1), AvgPool2d(2)
        self.conv = nn.BinaryConv2d(6, 7, 3, stride=2, padding=1, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.pool(self.stem(x)))


class Ternary(Module):
    """sign(0) = 0 of rounded values: all three levels are common. A convolution, then a fully connected layer."""

    shapes = ((1, 4, 5, 5),)

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.BinaryConv2d(4, 6, 3, padding=1, config=TERNARY)
        self.fc = nn.BinaryLinear(6 * 25, 3, True, config=TERNARY)

    def forward(self, x: Tensor) -> Tensor:
        # The offset keeps sums away from halves, which float32 may round either way.
        return self.fc((self.conv(x.round()) / 4 + 0.1).round().flatten(1))


class Unipolar(Module):
    """sign(0) = 0 behind a ReLU: levels 0 and 1."""

    shapes = ((1, 4, 5, 5),)

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.BinaryConv2d(4, 6, 3, padding=1, config=TERNARY)
        self.fc = nn.BinaryLinear(6 * 25, 3, True, config=TERNARY)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x.relu()).relu().flatten(1))


class Assorted(Module):
    """Groups, dilation, padding of -1 and +1, bias, every scale; layers with 1-bit weights alone or with float ones."""

    shapes = ((1, 4, 9, 8),)

    def __init__(self) -> None:
        super().__init__()
        config = nn.BinarizeConfig
        self.grouped = nn.BinaryConv2d(4, 34, 3, padding=2, dilation=2, groups=2, bias=True, padding_value=-1)
        self.tall = nn.BinaryConv2d(
            34, 6, (3, 2), (2, 1), padding=(1, 0), padding_value=1, config=config(bi_act_method=0, bi_w_scale=0)
        )
        # The bias keeps sums that are exactly 0, whose sign is any runtime's guess, from the next binarisation.
        self.weights_only = nn.BinaryConv2d(
            6, 5, 3, padding=1, bias=True, config=config(bi_act_method=-1, bi_w_scale=1)
        )
        self.float_weights = nn.BinaryConv2d(5, 5, 1, config=FLOAT_WEIGHTS)
        self.fc = nn.BinaryLinear(5 * 5 * 7, 3, True, config=config(bi_w_scale=2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.tall(self.grouped(x) + 0.25)
        return self.fc(self.float_weights(self.weights_only(x)).flatten(1))


class Fused(Module):
    """What the exporter joins into single ops: shifts, twins, shortcuts, PReLUs, a pool of what is binarised next."""

    shapes = ((1, 3, 8, 8),)

    def __init__(self) -> None:
        super().__init__()
        self.stem = Conv2d(3, 10, 3, padding=1)
        self.sign, self.activation, self.norm = nn.RSign(10), nn.RPReLU(10), BatchNorm2d(10)
        self.conv = nn.BinaryConv2d(10, 10, 3, padding=1, config=FLOAT_ACTIVATIONS)
        self.twin_sign = nn.RSign(10)
        self.left = nn.BinaryConv2d(10, 10, 1, config=FLOAT_ACTIVATIONS)
        self.right = nn.BinaryConv2d(10, 10, 1, config=FLOAT_ACTIVATIONS)
        self.left_norm, self.right_norm = BatchNorm2d(10), BatchNorm2d(10)
        self.pooled = nn.BinaryConv2d(20, 12, 3, padding=1)
        self.pooled_norm = BatchNorm2d(12)
        self.fc = nn.BinaryLinear(12, 4, True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.activation(self.norm(self.conv(self.sign(x))) + x)
        y = self.twin_sign(x)
        x = torch.cat([self.left_norm(self.left(y)) + x, self.right_norm(self.right(y)) + x], dim=1)
        x = self.pooled_norm(self.pooled(F.max_pool2d(x, 2)))
        return self.fc(F.max_pool2d(x, 4).flatten(1))


class Repeated(Module):
    """A module called three times, functional calls with a name and without."""

    shapes = ((1, 4, 5, 5),)

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.BinaryConv2d(4, 4, 3, padding=1)
        self.weight, self.matrix = Parameter(torch.empty(4, 4, 3, 3)), Parameter(torch.empty(3, 100))

    def forward(self, x: Tensor) -> Tensor:
        geometry, spec = ConvGeometry(padding=(1, 1)), WeightBinarization()
        x = self.conv(self.conv(x) - 0.1)
        x = binary_conv2d(binarize(x), self.weight, geometry=geometry, spec=spec)
        x = binary_conv2d(binarize(x, layer="mine"), self.weight, geometry=geometry, spec=spec, layer="mine")
        x = self.conv(x).flatten(1)
        return binary_linear(binarize(x), self.matrix, spec=spec)


class InPlace(Module):
    """Writes over what its layers saw and made."""

    shapes = ((1, 4, 5, 5),)

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.BinaryConv2d(4, 4, 3, padding=1), nn.BinaryConv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = x * 1.5
        y = self.first(x)
        x += y
        y = self.second(F.relu(y, inplace=True) - 0.1)
        y += x
        return y


class TwoInputs(Module):
    """Two inputs, of which one is no image; three outputs, in a dict and a tuple."""

    shapes = ((1, 3, 5, 5), (1, 6))

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.BinaryConv2d(3, 6, 3), nn.BinaryLinear(6, 6, True)

    def forward(self, image: Tensor, vector: Tensor) -> dict[str, object]:
        weights = self.fc(vector)
        features = self.conv(image) * weights[:, :, None, None]
        return {"features": features, "rest": (features.mean(dim=(2, 3)), weights)}


class Rectified(Module):
    """Half of what the first layer binarises is exactly 0, and is +1."""

    shapes = ((1, 4, 5, 5),)

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.BinaryConv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.relu())


class FloatBehindBinary(Module):
    """A float layer reads the signs of sums that are often exactly 0, where PyTorch and a runtime round apart."""

    shapes = ((1, 8, 8, 8),)

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.BinaryConv2d(8, 8, 3, padding=1)
        self.second = nn.BinaryConv2d(8, 8, 3, padding=1, config=FLOAT_WEIGHTS)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


class UnipolarChain(Module):
    """`torch.sign` of a ReLU's output, both fused into the layer in front; no sum comes near 0 by rounding."""

    shapes = ((1, 3, 6, 6),)

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.BinaryConv2d(3, 40, 3, bias=True, config=TERNARY)
        self.second = nn.BinaryConv2d(40, 5, 1, config=TERNARY)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x.relu()).relu())


class Stemmed(Module):
    """A stem of 7x7 with its max-pool, a shortcut by an average pool and a 1x1 convolution, an average pool alone."""

    shapes = ((1, 3, 16, 16),)

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_norm = Conv2d(3, 10, 7, stride=2, padding=3, bias=False), BatchNorm2d(10)
        self.first, self.first_norm = nn.BinaryConv2d(10, 34, 3, stride=2, padding=1), BatchNorm2d(34)
        self.pool, self.shortcut = AvgPool2d(2), Conv2d(10, 34, 1, bias=False)
        self.second, self.second_norm = nn.BinaryConv2d(34, 34, 3, padding=1), BatchNorm2d(34)
        self.head = Linear(34, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.stem_norm(self.stem(x)), 3, 2, 1)
        x = self.first_norm(self.first(x)) + self.shortcut(self.pool(x))
        x = self.second_norm(self.second(x)) + x
        return self.head(self.pool(x).flatten(1))


class NoBinaryLayer(Module):
    """Nothing to make 1-bit."""

    shapes = ((1, 3, 4, 4),)

    def __init__(self) -> None:
        super().__init__()
        self.conv = Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sign(self.conv(x))


def make(name: str, seed: int = 0) -> Module:
    """The network of that name, in eval mode, every parameter and statistic drawn from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Module = globals()[name]()
        for key, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                spread = torch.rand(tensor.shape) + 0.5
                # Variances stay positive; some BatchNorm weights are negative.
                tensor.copy_(spread if key.endswith("var") else spread * torch.randn(tensor.shape).sign())
    return model.eval()
