"""A bundle that is not whole is refused, and the message names what is wrong with it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bnn_deploy.errors import InputRefused
from bnn_deploy.parity.golden.format import OWN_HASH, sha256_of_manifest
from bnn_deploy.parity.golden.reader import read_golden

FILES = ["model.onnx", "expected.npz", "case1/inputs.npz", "case1/outputs.npz"]


@pytest.fixture
def bundle(deployed: Callable[..., Any], golden: Callable[..., Path]) -> Path:
    return golden(deployed("Residual"))


def change_manifest(bundle: Path, change: Callable[[dict[str, Any]], object], *, rehash: bool) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    change(manifest)
    if rehash:
        manifest[OWN_HASH] = sha256_of_manifest(manifest)
    (bundle / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [0, 0.5, 1])
def test_a_changed_byte(name: str, place: float, bundle: Path) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[min(int(place * len(content)), len(content) - 1)] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(
        InputRefused, match=rf"{name}: SHA-256 [0-9a-f]{{64}}; wanted: [0-9a-f]{{64}} as in the manifest"
    ):
        read_golden(bundle)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file(name: str, bundle: Path) -> None:
    (bundle / name).unlink()
    with pytest.raises(InputRefused, match=f"{name}: no such file"):
        read_golden(bundle)


@pytest.mark.parametrize("change", [lambda content: content[:-1], lambda content: content + b"\0"])
def test_another_size(change: Callable[[bytes], bytes], bundle: Path) -> None:
    size = (bundle / "model.onnx").stat().st_size
    (bundle / "model.onnx").write_bytes(change((bundle / "model.onnx").read_bytes()))
    with pytest.raises(InputRefused, match=rf"model.onnx: [0-9,]+ bytes; wanted: {size:,} as in the manifest"):
        read_golden(bundle)


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest["cases"][0]["tolerances"].update(output=1e9),
        lambda manifest: manifest["cases"][0]["binarizations"].pop(),
        lambda manifest: manifest["files"].pop("model.onnx"),
        lambda manifest: manifest.pop(OWN_HASH),
    ],
)
def test_a_changed_manifest(change: Callable[[dict[str, Any]], object], bundle: Path) -> None:
    change_manifest(bundle, change, rehash=False)
    with pytest.raises(InputRefused, match=r"manifest.json: changed since it was written"):
        read_golden(bundle)


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest.pop("cases"),
        lambda manifest: manifest["files"].pop("expected.npz"),
        lambda manifest: manifest["files"].pop("case1/inputs.npz"),
        lambda manifest: manifest["cases"][0]["layers"][0]["weight"].update(sha256="0"),
        lambda manifest: manifest["cases"][0]["binarizations"][0]["packed"]["shape"].append(7),
    ],
)
def test_a_manifest_that_contradicts_itself(change: Callable[[dict[str, Any]], object], bundle: Path) -> None:
    change_manifest(bundle, change, rehash=True)
    with pytest.raises(InputRefused, match="golden: a bundle that does not hold together"):
        read_golden(bundle)


@pytest.mark.parametrize("version", [2, 99, None, "1"])
def test_a_newer_format(version: Any, bundle: Path) -> None:
    change_manifest(bundle, lambda manifest: manifest.update(format_version=version), rehash=True)
    message = rf"format version {version}; wanted: version 1 or older; fix: a newer bnn_deploy"
    with pytest.raises(InputRefused, match=message):
        read_golden(bundle)


def test_a_key_that_a_later_writer_adds_is_no_harm(bundle: Path) -> None:
    change_manifest(bundle, lambda manifest: manifest.update(comment="x"), rehash=True)
    assert len(read_golden(bundle).cases) == 1


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"{", "damaged"),
        (b"\xff\xfe\x00", "damaged"),
        (b"[1]", "not the manifest of a golden bundle"),
        (b'{"format": "another"}', "not the manifest of a golden bundle"),
    ],
)
def test_another_manifest(content: bytes, found: str, bundle: Path) -> None:
    (bundle / "manifest.json").write_bytes(content)
    with pytest.raises(InputRefused, match=f"manifest.json: {found}"):
        read_golden(bundle)


def test_no_bundle(bundle: Path, tmp_path: Path) -> None:
    (bundle / "manifest.json").unlink()
    with pytest.raises(InputRefused, match=r"golden: no manifest.json in it"):
        read_golden(bundle)
    with pytest.raises(InputRefused, match="nowhere: no such folder"):
        read_golden(tmp_path / "nowhere")
    with pytest.raises(InputRefused, match=r"model.onnx: a file"):
        read_golden(bundle / "model.onnx")


def test_a_copy_is_as_good(bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "elsewhere")
    shutil.rmtree(bundle)
    read = read_golden(tmp_path / "elsewhere")
    assert read.total_bytes == sum(path.stat().st_size for path in (tmp_path / "elsewhere").rglob("*.[on]*"))
