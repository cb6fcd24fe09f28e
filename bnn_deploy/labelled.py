"""Labelled images to measure accuracy on: a folder of the user's, or the digits that the package reads.

A folder holds either

- a sub-folder for each class, with its images anywhere below. Class i is the i-th sub-folder in the order of their
  names as text ("10" comes before "2"), which is the order of torchvision's `ImageFolder` and so of most networks that
  were trained with it; or
- images, and `labels.csv` (a line `file,label` for each) or `labels.json` (`{"file": label}`), with paths relative to
  the folder. A label is the index of a class, or its name; names are ordered as text.

A list of class names in the order of the network's outputs overrides either order.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from bnn_deploy import digits
from bnn_deploy.errors import InputRefused
from bnn_deploy.feeds import Preprocessing, preprocessing_of, read_image
from bnn_deploy.images import SUFFIXES, images_below

LABEL_FILES = ("labels.csv", "labels.json")


@dataclass(frozen=True)
class LabelledImages:
    """Images that are read when they are asked for, and their classes.

    Attributes:
        source: What they are, in a line.
        input: The network's input that takes them.
        batch: The batch size that the network is fixed to; None where it takes any.
        names: One an image.
        labels: [N] int64, indices of classes.
        classes: Their names in the order of the network's outputs; empty where the labels are mere indices.
        read: (first, last) -> images first to last - 1, [last - first, C, H, W] float32.
    """

    source: str
    input: str
    batch: int | None
    names: tuple[str, ...]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    read: Callable[[int, int], NDArray[np.float32]]


def held_out_digits(model: onnx.ModelProto) -> LabelledImages:
    """The 1,000 digits that no shipped network was trained on, for the first input of `model`.

    Raises:
        InputRefused: They are not installed.
    """
    images, labels = digits.held_out()
    value = model.graph.input[0]
    names = tuple(f"held-out digit {index}" for index in range(len(labels)))
    classes = tuple(str(digit) for digit in range(digits.CLASSES))
    return LabelledImages(
        digits.SOURCE, value.name, _fixed_batch(value), names, labels, classes, lambda first, last: images[first:last]
    )


def labelled_folder(
    folder: Path,
    model: onnx.ModelProto,
    *,
    preprocessing: Preprocessing | None = None,
    classes: Sequence[str] | None = None,
) -> LabelledImages:
    """The images of a folder, for the one input of `model`.

    Args:
        folder: As the head of this file has it.
        model: The deployed file.
        preprocessing: How images are normalised; None takes what the file says.
        classes: Every class's name in the order of the network's outputs; None orders the names as text.

    Raises:
        InputRefused: No such folder, no image in it, a label that is no class, or a network with several inputs.
    """
    if not folder.is_dir():
        raise InputRefused(str(folder), "a file" if folder.exists() else "no such folder", "a folder of images")
    if len(model.graph.input) != 1:
        raise InputRefused(str(folder), f"images, and the network has {len(model.graph.input)} inputs", "one input")
    table = next((folder / name for name in LABEL_FILES if (folder / name).is_file()), None)
    named = _read_labels(table) if table is not None else _read_subfolders(folder, classes)
    if classes is not None:
        order = tuple(classes)
    elif table is not None and all(label.isdecimal() for _, label in named):
        order = ()
    else:
        order = tuple(sorted({label for _, label in named}))
    paths = [folder / name for name, _ in named]
    value = model.graph.input[0]
    preprocessing = preprocessing or preprocessing_of(model)

    def read(first: int, last: int) -> NDArray[np.float32]:
        return np.concatenate([read_image(path, value, preprocessing) for path in paths[first:last]])

    return LabelledImages(
        source=f"folder {folder}",
        input=value.name,
        batch=_fixed_batch(value),
        names=tuple(name for name, _ in named),
        labels=np.array([_index(table or folder, name, label, order) for name, label in named], np.int64),
        classes=order,
        read=read,
    )


def read_classes(path: Path) -> list[str]:
    """Class names in the order of the network's outputs: a JSON list, or a name a line.

    Raises:
        InputRefused: The file cannot be read, is empty, or names a class twice.
    """
    wanted = "a JSON list of names, or a name a line"
    text = _read_text(path, wanted)
    names = _parse_json(path, text, wanted) if path.suffix == ".json" else text.split("\n")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputRefused(str(path), "JSON that is no list of names", wanted)
    given = [name.strip() for name in names if name.strip()]
    twice = sorted(name for name, count in Counter(given).items() if count > 1)
    if not given or twice:
        raise InputRefused(str(path), f"{', '.join(twice)} twice" if twice else "no name in it", wanted)
    return given


def _read_subfolders(folder: Path, classes: Sequence[str] | None) -> list[tuple[str, str]]:
    """(path relative to `folder`, class name), in the order of class names, then of paths."""
    subfolders = sorted(path for path in folder.iterdir() if path.is_dir())
    if not subfolders:
        wanted = f"a sub-folder for each class, or images and {' or '.join(LABEL_FILES)}"
        raise InputRefused(str(folder), "no sub-folder and no labels in it", wanted)
    named = []
    for subfolder in subfolders:
        if classes is not None and subfolder.name not in classes:
            raise InputRefused(str(subfolder), "a folder of no class in the list", f"one of {len(classes)} names")
        images = images_below(subfolder)
        if not images:
            raise InputRefused(
                str(subfolder), "no image in it", f"files that end in {', '.join(SUFFIXES)}", "remove the folder"
            )
        named += [(str(path.relative_to(folder)), subfolder.name) for path in images]
    return named


def _read_labels(path: Path) -> list[tuple[str, str]]:
    """(path relative to the folder, label as text), in the order of the file."""
    wanted = "a line `file,label` for each image" if path.suffix == ".csv" else '{"file": label, ...}'
    text = _read_text(path, wanted)
    if path.suffix == ".csv":
        rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines()) if any(row)]
        rows = rows[1:] if rows and [cell.lower() for cell in rows[0]] == ["file", "label"] else rows
    else:
        content = _parse_json(path, text, wanted)
        if not isinstance(content, dict):
            raise InputRefused(str(path), "JSON that is no object", wanted)
        rows = [[name, str(label)] for name, label in content.items()]
    for number, row in enumerate(rows, 1):
        if len(row) != 2:
            raise InputRefused(f"{path}, entry {number}", f"{len(row)} values", wanted)
        if not (path.parent / row[0]).is_file():
            raise InputRefused(f"{path}, entry {number}", f"no file {row[0]}", "a path relative to the folder")
    if not rows:
        raise InputRefused(str(path), "no label in it", wanted)
    return [(name, label) for name, label in rows]


def _index(where: Path, name: str, label: str, classes: tuple[str, ...]) -> int:
    if label in classes:
        return classes.index(label)
    if label.isdecimal() and (not classes or int(label) < len(classes)):
        return int(label)
    wanted = f"one of {len(classes)} class names, or an index below {len(classes)}"
    raise InputRefused(f"{where}: {name}", f"label {label!r}", wanted)


def _read_text(path: Path, wanted: str) -> str:
    try:
        return path.read_text("utf-8-sig")  # spreadsheets put a mark in front
    except (OSError, UnicodeDecodeError) as error:
        raise InputRefused(str(path), f"cannot be read: {error}", wanted) from error


def _parse_json(path: Path, text: str, wanted: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputRefused(str(path), f"not JSON (line {error.lineno}: {error.msg})", wanted) from None


def _fixed_batch(value: onnx.ValueInfoProto) -> int | None:
    sizes = value.type.tensor_type.shape.dim
    return sizes[0].dim_value or None if sizes else None
