"""Nobody sees half a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from bnn_deploy.files import is_engine, sha256, write_atomically


def test_makes_folders_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "model.onnx"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("step", ["write_bytes", "replace"])
@pytest.mark.parametrize("old", [None, b"old"])
def test_an_error_in_the_middle_leaves_what_was_there(
    step: str, old: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.onnx"
    if old is not None:
        path.write_bytes(old)
    write = Path.write_bytes

    def fail(self: Path, content: object) -> None:
        if step == "write_bytes":
            write(self, b"half of it")
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, step, fail)
    with pytest.raises(OSError, match="no space left"):
        write_atomically(path, b"new")
    monkeypatch.undo()
    assert [file.read_bytes() for file in tmp_path.iterdir()] == ([] if old is None else [old])


def test_nobody_sees_half_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, write, seen = tmp_path / "model.onnx", Path.write_bytes, []
    path.write_bytes(b"old")

    def watch(self: Path, content: bytes) -> int:
        count = write(self, content)
        seen.append(path.read_bytes())
        return count

    monkeypatch.setattr(Path, "write_bytes", watch)
    write_atomically(path, b"new")
    assert seen == [b"old"] and path.read_bytes() == b"new"


def test_sha256(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    assert sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize(
    ("path", "expected"), [("a/x.engine", True), ("x.engine.json", False), ("model.onnx", False), ("engine", False)]
)
def test_is_engine(path: str, expected: bool) -> None:
    assert is_engine(path) is is_engine(Path(path)) is expected
