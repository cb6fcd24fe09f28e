"""Training-time modules: binary activations, binary layers, the blocks made of them, and what names them for export.

`functional` holds the equations as functions, `export_mode` what decides whether a forward is being recorded.
"""

from __future__ import annotations

from bnn_deploy.nn.activations import (
    ApproxSign,
    BirealBinaryActivation,
    RPReLU,
    RSign,
    SteSign,
    StraightThroughBinaryActivation,
)
from bnn_deploy.nn.binarize import BIREAL, Binarize, BinarizeConfig
from bnn_deploy.nn.blocks import BinaryConvBNReLU, BinaryResNetBlock, BinaryVggBlock
from bnn_deploy.nn.conv import BinaryConv2d
from bnn_deploy.nn.export_mode import symbolic_capture
from bnn_deploy.nn.functional import ConvGeometry, WeightBinarization
from bnn_deploy.nn.latent import LatentWeightLayer, clamp_latent_weights_
from bnn_deploy.nn.layer import BinaryLayer, name_layers
from bnn_deploy.nn.linear import BinaryLinear
from bnn_deploy.nn.nin import NIN
from bnn_deploy.nn.sign_zero import set_sign_zero
from bnn_deploy.nn.skip import ResNetDownSample, SkipConnectV2

__all__ = [
    "BIREAL",
    "NIN",
    "ApproxSign",
    "Binarize",
    "BinarizeConfig",
    "BinaryConv2d",
    "BinaryConvBNReLU",
    "BinaryLayer",
    "BinaryLinear",
    "BinaryResNetBlock",
    "BinaryVggBlock",
    "BirealBinaryActivation",
    "ConvGeometry",
    "LatentWeightLayer",
    "RPReLU",
    "RSign",
    "ResNetDownSample",
    "SkipConnectV2",
    "SteSign",
    "StraightThroughBinaryActivation",
    "WeightBinarization",
    "clamp_latent_weights_",
    "name_layers",
    "set_sign_zero",
    "symbolic_capture",
]
