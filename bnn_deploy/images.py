"""From an image file to the input of a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bnn_deploy.errors import InputRefused

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")


def load_image(
    path: Path, shape: tuple[int, int, int], *, mean: Sequence[float], deviation: Sequence[float]
) -> NDArray[np.float32]:
    """Reads one image as the networks of the zoo were trained to see it.

    An image smaller than the network's input is centred on black. A larger one is scaled until its shorter side fits
    and cut to the middle. Then `(grey / 255 - mean) / deviation` for each channel.

    Args:
        path: Any image that Pillow reads.
        shape: (C, H, W) of the network's input; C is 1 or 3.
        mean: One number, or one a channel.
        deviation: Likewise.

    Returns:
        [1, C, H, W] float32.

    Raises:
        InputRefused: No image, a network that takes none, or a mean or deviation that does not fit its channels.
    """
    channels, height, width = shape
    if channels not in (1, 3):
        raise InputRefused(str(path), f"an image, and the network takes {channels} channels", "an .npy file")
    for name, values in (("mean", mean), ("deviation", deviation)):
        if len(values) not in (1, channels):
            raise InputRefused(f"the {name} of images", f"{len(values)} numbers", f"one, or one for each of {channels}")
    if not all(deviation):
        raise InputRefused("the deviation of images", "0", "numbers other than 0")
    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB" if channels == 3 else "L")
    except Exception as error:  # a broken file raises what its format's reader happens to
        raise InputRefused(
            str(path), f"cannot be read as an image: {error}", "an image file or an .npy file"
        ) from error
    grey = np.asarray(_fit(image, height, width), np.float32).reshape(height, width, channels) / np.float32(255)
    normal = (grey - np.asarray(mean, np.float32)) / np.asarray(deviation, np.float32)
    return np.ascontiguousarray(normal.transpose(2, 0, 1)[None], np.float32)


def images_below(folder: Path) -> list[Path]:
    """Every image in a folder or anywhere below it, by suffix, in the order of their paths."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())


def _fit(image: Image.Image, height: int, width: int) -> Image.Image:
    if image.height > height or image.width > width:
        scale = max(height / image.height, width / image.width)
        size = (max(width, round(image.width * scale)), max(height, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.BILINEAR)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))  # beyond the image: black
