"""What the user gives as the input of one inference: arrays in files, or an image."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from bnn_deploy.errors import InputRefused
from bnn_deploy.images import SUFFIXES, load_image

PREPROCESSING = "bnn_deploy.preprocessing"


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes an input: `(grey / 255 - mean) / deviation`, channel by channel."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def to_metadata(self) -> dict[str, str]:
        """As it stands in the file."""
        return {PREPROCESSING: json.dumps({"mean": list(self.mean), "deviation": list(self.deviation)})}


def preprocessing_of(model: onnx.ModelProto) -> Preprocessing | None:
    """What the exporter wrote into the file, or None."""
    text = next((entry.value for entry in model.metadata_props if entry.key == PREPROCESSING), None)
    if text is None:
        return None
    content = json.loads(text)
    return Preprocessing(tuple(content["mean"]), tuple(content["deviation"]))


def read_feeds(
    model: onnx.ModelProto, given: Sequence[str], preprocessing: Preprocessing | None
) -> dict[str, NDArray[Any]]:
    """Reads the inputs of `model` from files.

    Args:
        model: The file that will run.
        given: `x.npy`, `image.png` or `name=x.npy`, one for each input, in the model's order unless named; or one
            `.npz` that holds them all by name.
        preprocessing: For images.

    Returns:
        Input name -> array, float32.

    Raises:
        InputRefused: A file cannot be read or does not fit.
    """
    inputs = {value.name: value for value in model.graph.input}
    if len(given) == 1 and given[0].endswith(".npz"):
        arrays = _load(Path(given[0]))
        return {name: _as_float32(f"{given[0]}: {name}", array) for name, array in arrays.items()}
    if len(given) != len(inputs):
        raise InputRefused("--input", f"{len(given)} given", f"one for each of {', '.join(inputs)}")
    feeds = {}
    for text, expected in zip(given, inputs, strict=True):
        name, path = _split(text, inputs, expected)
        feeds[name] = _read_one(path, inputs[name], preprocessing)
    return feeds


def _split(text: str, inputs: Mapping[str, onnx.ValueInfoProto], expected: str) -> tuple[str, Path]:
    name, equals, rest = text.partition("=")
    if equals and name in inputs:
        return name, Path(rest)
    return expected, Path(text)


def _read_one(path: Path, value: onnx.ValueInfoProto, preprocessing: Preprocessing | None) -> NDArray[Any]:
    if not path.is_file():
        raise InputRefused(str(path), "no such file", "an .npy file or an image")
    if path.suffix.lower() not in SUFFIXES:
        arrays = _load(path)
        if "" not in arrays:
            found = f"several arrays ({', '.join(arrays) or 'none'})"
            raise InputRefused(str(path), found, "one array, or a single .npz file with all inputs by name")
        return _as_float32(str(path), arrays[""])
    return read_image(path, value, preprocessing)


def read_image(path: Path, value: onnx.ValueInfoProto, preprocessing: Preprocessing | None) -> NDArray[np.float32]:
    """Reads one image as the input `value` of a network takes it: [1, C, H, W] float32.

    Raises:
        InputRefused: No image, an input without a fixed image size, or nothing says how images are normalised.
    """
    sizes = [size.dim_value for size in value.type.tensor_type.shape.dim]
    if len(sizes) != 4 or not all(sizes[1:]):
        raise InputRefused(str(path), "an image, and the network's input has no fixed image size", "an .npy file")
    if preprocessing is None:
        raise InputRefused(
            str(path), "an image, and the file does not say how images are normalised", "--mean and --deviation"
        )
    return load_image(path, (sizes[1], sizes[2], sizes[3]), mean=preprocessing.mean, deviation=preprocessing.deviation)


def _load(path: Path) -> dict[str, NDArray[Any]]:
    if not path.is_file():
        raise InputRefused(str(path), "no such file", "an .npy or .npz file")
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return {"": content}
        with content:
            return {name: content[name] for name in content.files}
    except Exception as error:  # a broken file raises half a dozen unrelated types, of NumPy, zipfile and zlib
        raise InputRefused(
            str(path), f"cannot be read: {error}", "what numpy.save wrote, without pickled objects"
        ) from error


def _as_float32(where: str, array: NDArray[Any]) -> NDArray[np.float32]:
    if not np.issubdtype(array.dtype, np.floating):
        raise InputRefused(where, f"values of type {array.dtype}", "float32", "array.astype('float32'), normalised")
    return np.ascontiguousarray(array, np.float32)
