"""Writing files so that nobody ever sees half of one, and telling one from another."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

ENGINE_SUFFIX = ".engine"  # of a TensorRT engine, the one deployed file that is not ONNX


def is_engine(path: str | Path) -> bool:
    """Whether it is named as an engine."""
    return Path(path).suffix == ENGINE_SUFFIX


def write_atomically(path: Path, content: bytes) -> None:
    """Writes to a temporary name beside `path`, then renames. Folders that are missing are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
