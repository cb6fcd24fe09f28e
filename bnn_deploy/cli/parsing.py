"""From the text of an option to its value; what cannot be read is an `InputRefused` that names the option."""

from __future__ import annotations

import json
import os
import re
from enum import StrEnum
from pathlib import Path

from bnn_deploy.errors import InputRefused

DYNAMIC_AXES = ("batch", "spatial")


class Precision(StrEnum):
    """What `--precision` takes: the type of everything that is not 1-bit."""

    FP32 = "fp32"
    FP16 = "fp16"


class SignZero(StrEnum):
    """What `--sign-zero` takes: the sign of an exact 0."""

    AUTO = "auto"
    ONE = "one"
    ZERO = "zero"


class Exporter(StrEnum):
    """What `--exporter` takes: which of PyTorch's two exporters records the model."""

    DYNAMO = "dynamo"
    LEGACY = "legacy"


def parse_shape(text: str, option: str = "--input") -> list[int]:
    """`1x3x224x224` to `[1, 3, 224, 224]`.

    Raises:
        InputRefused: A size is missing, not a whole number or less than 1.
    """
    sizes = _sizes(text)
    if sizes is None:
        wanted = "sizes of 1 or more joined by x"
        raise InputRefused(f"{option} {text!r}", "not a shape", wanted, f"{option} 1x3x224x224")
    return sizes


def parse_size(text: str) -> list[int]:
    """`224x192` to `[224, 192]`, height and width.

    Raises:
        InputRefused: Anything else.
    """
    sizes = _sizes(text)
    if sizes is None or len(sizes) != 2:
        raise InputRefused(f"--size {text!r}", "not a height and a width", "--size 224x192")
    return sizes


def _sizes(text: str) -> list[int] | None:
    """Whole numbers of 1 or more joined by x; None where it is something else."""
    sizes = text.strip().lower().split("x")
    if not all(re.fullmatch(r"[0-9]+", size) and int(size) > 0 for size in sizes):
        return None
    return [int(size) for size in sizes]


def parse_numbers(option: str, text: str | None) -> list[float] | None:
    """`0.5` or `0.5,0.4,0.3` to a list.

    Raises:
        InputRefused: Something in it is no number.
    """
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InputRefused(f"{option} {text!r}", "not numbers", "one number, or one a channel: 0.5,0.5,0.5") from None


def parse_kwargs(text: str | None) -> dict[str, object]:
    """A JSON object to the keyword arguments of the model's factory.

    Raises:
        InputRefused: Not JSON, or JSON that is no object.
    """
    if text is None:
        return {}
    where, example = "--kwargs", """--kwargs '{"num_classes": 10}'"""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        found = f"not JSON ({error.msg} at character {error.pos + 1}): {text}"
        raise InputRefused(where, found, "a JSON object", example) from None
    if not isinstance(value, dict):
        raise InputRefused(where, f"JSON that is no object: {text}", "a JSON object", example)
    return value


def parse_dynamic(text: str) -> str:
    """`batch`, `batch,spatial` or `none`, whatever the order and the blanks.

    Raises:
        InputRefused: Any other text.
    """
    axes = {axis.strip() for axis in text.lower().split(",")}
    if axes == {"none"}:
        return "none"
    if "batch" not in axes or not axes <= set(DYNAMIC_AXES):
        raise InputRefused(f"--dynamic {text!r}", "no such choice", "batch, batch,spatial or none")
    return ",".join(axis for axis in DYNAMIC_AXES if axis in axes)


def parse_function(option: str, text: str | None) -> str | None:
    """`package.module:function` or `path/to/file.py:function`, unchanged once its form is right.

    Raises:
        InputRefused: Another form.
    """
    if text is None:
        return None
    home, _, function = text.rpartition(":")
    is_module = all(part.isidentifier() for part in home.split("."))
    if not function.isidentifier() or not (is_module or home.endswith(".py")):
        wanted = "package.module:function or path/to/file.py:function"
        raise InputRefused(f"{option} {text!r}", "not the name of a function in a module", wanted)
    return text


def existing_file(option: str, path: Path | None) -> str | None:
    """The path of a file that is there.

    Raises:
        InputRefused: Nothing is there, or a folder.
    """
    if path is None:
        return None
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        raise InputRefused(f"{option} {path}", found, "a file")
    return str(path)


def existing_folder(option: str, path: Path) -> str:
    """The path of a folder that is there.

    Raises:
        InputRefused: Nothing is there, or a file.
    """
    if not path.is_dir():
        found = "a file" if path.exists() else "no such folder"
        raise InputRefused(f"{option} {path}", found, "a folder")
    return str(path)


def output_file(option: str, path: Path, fix: str = "name a file in it") -> str:
    """The path of a file to write, which need not be there yet.

    Args:
        option: Where it was given.
        path: What was given.
        fix: What to do where that is a folder.

    Raises:
        InputRefused: It is a folder, lies below a file, or in a folder that cannot be written to.
    """
    if path.is_dir():
        raise InputRefused(f"{option} {path}", "a folder", "the name of a file", fix)
    output_folder(option, path.parent)
    there = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.is_dir())
    if not os.access(there, os.W_OK):
        raise InputRefused(
            f"{option} {path}", f"{there} cannot be written to", "a folder that can", "name another folder"
        )
    return str(path)


def output_folder(option: str, path: Path) -> str:
    """The path of a folder to write to, which need not be there yet.

    Raises:
        InputRefused: It is a file, or lies below one.
    """
    for taken in (path, *path.parents):
        if taken.exists() and not taken.is_dir():
            raise InputRefused(f"{option} {path}", f"{taken} is a file", "a folder", "name another folder")
    return str(path)
