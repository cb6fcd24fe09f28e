"""Files cut into pieces that are small enough to travel, and put together again. Needs nothing but Python.

An item is a file, compressed, or a folder as a compressed archive. `manifest.json` lists the items with the SHA-256 of
each piece, so that pieces may arrive one by one and in any order, and a damaged one is found before it is unpacked.
"""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
FORMAT = 1
FILE, FOLDER = "file", "folder"
PIECE_BYTES = 50 * 1024 * 1024  # what carries pieces takes 64 MiB, and other files besides
_CHUNK = 1024 * 1024


class PieceError(Exception):
    """A piece or a manifest that is missing or damaged."""


@dataclass(frozen=True)
class Piece:
    """One stretch of an item's compressed bytes."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Item:
    """What pieces make together.

    Attributes:
        name: Of the item; its pieces are `name.000`, `name.001`, ...
        kind: FILE or FOLDER.
        path: Where the file goes, or what is in the folder: relative to where all is unpacked.
        needed: Whether nothing can be done without it.
        pieces: In order.
    """

    name: str
    kind: str
    path: str
    needed: bool
    pieces: Sequence[Piece]


def cut(content: bytes, name: str, folder: Path, most: int = PIECE_BYTES) -> list[Piece]:
    """Writes `content` as pieces of the same size, at most so many bytes."""
    pieces = []
    count = max(-(-len(content) // most), 1)
    size = -(-len(content) // count)
    for number in range(count):
        part = content[number * size : (number + 1) * size]
        piece = Piece(f"{name}.{number:03}", len(part), hashlib.sha256(part).hexdigest())
        (folder / piece.name).write_bytes(part)
        pieces.append(piece)
    return pieces


def archive(files: Sequence[tuple[str, Path]]) -> bytes:
    """A compressed archive of files. files: name in the archive, and where the file is."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:xz", preset=9) as tar:
        for name, path in files:
            tar.add(path, name, recursive=False)
    return out.getvalue()


def write_manifest(folder: Path, items: Sequence[Item], about: dict[str, Any]) -> None:
    """Writes the manifest. about: what else is to be known of the bundle."""
    content = {"format": FORMAT, "about": about, "items": [asdict(item) for item in items]}
    (folder / MANIFEST).write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def read_manifest(folder: Path) -> tuple[list[Item], dict[str, Any]]:
    """The items, and what else is to be known.

    Raises:
        PieceError: There is no manifest, or not one of this format.
    """
    try:
        content = json.loads((folder / MANIFEST).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise PieceError(f"{folder / MANIFEST}: {error}") from error
    if content.get("format") != FORMAT:
        raise PieceError(f"{folder / MANIFEST}: format {content.get('format')}, and this reads {FORMAT}")
    items = [Item(**{**item, "pieces": [Piece(**piece) for piece in item["pieces"]]}) for item in content["items"]]
    return items, content["about"]


def missing(item: Item, folder: Path) -> list[str]:
    """The pieces of an item that are not there, or damaged."""
    return [piece.name for piece in item.pieces if not _is_whole(folder / piece.name, piece)]


def _is_whole(path: Path, piece: Piece) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest() == piece.sha256


def unpack(item: Item, folder: Path, target: Path) -> None:
    """Puts an item together.

    Raises:
        PieceError: A piece is missing or damaged.
    """
    decompressor = lzma.LZMADecompressor()
    path = target / item.path
    if item.kind == FILE:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as out:
            for chunk in _chunks(item, folder):
                out.write(decompressor.decompress(chunk))
    else:
        path.mkdir(parents=True, exist_ok=True)
        content = b"".join(decompressor.decompress(chunk) for chunk in _chunks(item, folder))
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            tar.extractall(path, filter="data")
    if not decompressor.eof:
        raise PieceError(f"{item.name}: it ends too early")


def _chunks(item: Item, folder: Path) -> Iterator[bytes]:
    """The compressed bytes, each piece compared with its hash before any of it is used."""
    for piece in item.pieces:
        path = folder / piece.name
        if not path.is_file():
            raise PieceError(f"{piece.name} is missing")
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != piece.sha256:
            raise PieceError(f"{piece.name} is damaged")
        for start in range(0, len(content), _CHUNK):
            yield content[start : start + _CHUNK]
