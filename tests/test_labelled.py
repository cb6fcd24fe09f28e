"""Labelled images: which image is of which class, in which order, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from PIL import Image

from bnn_deploy import digits
from bnn_deploy.errors import InputRefused
from bnn_deploy.feeds import Preprocessing
from bnn_deploy.labelled import held_out_digits, labelled_folder, read_classes

PLAIN = Preprocessing((0.0,), (1 / 255,))  # grey values as they are


def network(*shapes: Sequence[int | str], metadata: dict[str, str] | None = None) -> Any:
    """A model with these inputs, and nothing that reads them."""
    inputs = [helper.make_tensor_value_info(f"x{i}", TensorProto.FLOAT, shape) for i, shape in enumerate(shapes)]
    model = helper.make_model(helper.make_graph([], "empty", inputs, []))
    helper.set_model_props(model, metadata or {})
    return model


TAKES_PIXELS = network(["batch", 1, 1, 1])


def paint(path: Path, grey: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((1, 1), grey, np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Class `10` comes before class `2`; the images of `cat` lie at two depths."""
    for name, grey in (("cat/b.png", 1), ("cat/a/z.PNG", 2), ("2/x.bmp", 3), ("10/y.png", 4)):
        paint(tmp_path / "data" / name, grey)
    (tmp_path / "data" / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "data" / "loose.txt").write_text("no class")
    return tmp_path / "data"


class TestSubfolders:
    def test_classes_are_in_the_order_of_their_names_as_text(self, folder: Path) -> None:
        found = labelled_folder(folder, TAKES_PIXELS, preprocessing=PLAIN)
        assert found.classes == ("10", "2", "cat")
        assert found.names == ("10/y.png", "2/x.bmp", "cat/a/z.PNG", "cat/b.png")
        assert found.labels.tolist() == [0, 1, 2, 2] and found.labels.dtype == np.int64
        assert found.source == f"folder {folder}"
        assert (found.input, found.batch) == ("x0", None)

    def test_images_are_read_when_asked_for(self, folder: Path) -> None:
        found = labelled_folder(folder, TAKES_PIXELS, preprocessing=PLAIN)
        np.testing.assert_allclose(found.read(1, 4).ravel(), [3, 2, 1], rtol=1e-6)
        assert found.read(0, 1).shape == (1, 1, 1, 1) and found.read(0, 1).dtype == np.float32
        (folder / "cat" / "b.png").write_bytes(b"no image any more")
        found.read(0, 3)
        with pytest.raises(InputRefused, match="cannot be read as an image"):
            found.read(3, 4)

    def test_another_order(self, folder: Path) -> None:
        classes = ["cat", "dog", "2", "10"]
        found = labelled_folder(folder, TAKES_PIXELS, preprocessing=PLAIN, classes=classes)
        assert found.classes == ("cat", "dog", "2", "10")
        assert dict(zip(found.names, found.labels.tolist(), strict=True)) == {
            "10/y.png": 3,
            "2/x.bmp": 2,
            "cat/a/z.PNG": 0,
            "cat/b.png": 0,
        }

    def test_a_folder_of_no_class(self, folder: Path) -> None:
        with pytest.raises(InputRefused, match="data/2: a folder of no class in the list"):
            labelled_folder(folder, TAKES_PIXELS, classes=["10", "cat"])

    def test_a_class_without_images(self, folder: Path) -> None:
        (folder / "empty").mkdir()
        with pytest.raises(InputRefused, match="empty: no image in it"):
            labelled_folder(folder, TAKES_PIXELS)

    def test_no_classes(self, tmp_path: Path) -> None:
        paint(tmp_path / "a.png", 0)
        with pytest.raises(InputRefused, match=r"no sub-folder and no labels in it.*labels\.csv"):
            labelled_folder(tmp_path, TAKES_PIXELS)
        with pytest.raises(InputRefused, match="nothing: no such folder"):
            labelled_folder(tmp_path / "nothing", TAKES_PIXELS)
        with pytest.raises(InputRefused, match=r"a\.png: a file"):
            labelled_folder(tmp_path / "a.png", TAKES_PIXELS)


class TestLabelFiles:
    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("labels.csv", "file,label\ncat/b.png,7\n2/x.bmp,0\n"),
            ("labels.csv", "\ufeffFile, Label\r\ncat/b.png, 7\r\n\r\n2/x.bmp,0\r\n"),
            ("labels.csv", '"cat/b.png",7\n2/x.bmp,0'),
            ("labels.json", '{"cat/b.png": 7, "2/x.bmp": 0}'),
            ("labels.json", '{"cat/b.png": "7", "2/x.bmp": "0"}'),
        ],
    )
    def test_indices(self, name: str, text: str, folder: Path) -> None:
        (folder / name).write_text(text)
        found = labelled_folder(folder, TAKES_PIXELS, preprocessing=PLAIN)
        assert (found.names, found.labels.tolist(), found.classes) == (("cat/b.png", "2/x.bmp"), [7, 0], ())
        np.testing.assert_allclose(found.read(0, 2).ravel(), [1, 3], rtol=1e-6)

    def test_names(self, folder: Path) -> None:
        (folder / "labels.csv").write_text("cat/b.png,tabby\n2/x.bmp,aardvark\ncat/a/z.PNG,tabby\n")
        found = labelled_folder(folder, TAKES_PIXELS)
        assert (found.classes, found.labels.tolist()) == (("aardvark", "tabby"), [1, 0, 1])
        found = labelled_folder(folder, TAKES_PIXELS, classes=["tabby", "zebra", "aardvark"])
        assert found.labels.tolist() == [0, 2, 0]

    def test_a_name_that_is_a_number_is_a_name_where_classes_are_given(self, folder: Path) -> None:
        (folder / "labels.csv").write_text("cat/b.png,1\n2/x.bmp,0\n")
        assert labelled_folder(folder, TAKES_PIXELS, classes=["1", "x"]).labels.tolist() == [0, 0]

    @pytest.mark.parametrize("label", ["lion", "3", "-1", "1.0", ""])
    def test_a_label_that_is_no_class(self, label: str, folder: Path) -> None:
        (folder / "labels.csv").write_text(f"cat/b.png,{label}\n")
        message = rf"labels.csv: cat/b.png: label '{label}'; wanted: one of 3 class names, or an index below 3"
        with pytest.raises(InputRefused, match=message):
            labelled_folder(folder, TAKES_PIXELS, classes=["a", "b", "c"])

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("labels.csv", "cat/b.png,1\ngone.png,1\n", r"labels.csv, entry 2: no file gone.png"),
            ("labels.csv", "cat/b.png\n", r"labels.csv, entry 1: 1 values"),
            ("labels.csv", "cat/b.png,1,2\n", r"labels.csv, entry 1: 3 values"),
            ("labels.csv", "file,label\n", r"labels.csv: no label in it"),
            ("labels.json", "[1]", r"labels.json: JSON that is no object"),
            ("labels.json", "{", r"labels.json: not JSON"),
        ],
    )
    def test_refused(self, name: str, text: str, message: str, folder: Path) -> None:
        (folder / name).write_text(text)
        with pytest.raises(InputRefused, match=message):
            labelled_folder(folder, TAKES_PIXELS)

    def test_bytes_that_are_no_text(self, folder: Path) -> None:
        (folder / "labels.csv").write_bytes(b"\xff\xfe\xff")
        with pytest.raises(InputRefused, match=r"labels.csv: cannot be read"):
            labelled_folder(folder, TAKES_PIXELS)


class TestTheNetwork:
    def test_says_how_images_are_normalised(self, folder: Path) -> None:
        model = network(["batch", 1, 1, 1], metadata=Preprocessing((0.5,), (0.25,)).to_metadata())
        found = labelled_folder(folder, model)
        np.testing.assert_allclose(found.read(0, 1).ravel(), [(4 / 255 - 0.5) / 0.25], rtol=1e-6)
        with pytest.raises(InputRefused, match="does not say how images are normalised"):
            labelled_folder(folder, TAKES_PIXELS).read(0, 1)

    def test_of_fixed_batch_size(self, folder: Path) -> None:
        assert labelled_folder(folder, network([3, 1, 1, 1])).batch == 3

    def test_of_several_inputs(self, folder: Path) -> None:
        with pytest.raises(InputRefused, match="images, and the network has 2 inputs"):
            labelled_folder(folder, network([1, 1, 1, 1], [1, 4]))


class TestClassLists:
    @pytest.mark.parametrize(
        ("name", "text"),
        [("classes.txt", "cat\n\n dog \r\nbird, grey\n"), ("classes.json", '["cat", "dog", "bird, grey"]')],
    )
    def test_read(self, name: str, text: str, tmp_path: Path) -> None:
        (tmp_path / name).write_text(text)
        assert read_classes(tmp_path / name) == ["cat", "dog", "bird, grey"]

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("classes.txt", "\n \n", "no name in it"),
            ("classes.txt", "b\na\nb\na\nc", "a, b twice"),
            ("classes.json", '{"a": 1}', "JSON that is no list of names"),
            ("classes.json", "[1, 2]", "JSON that is no list of names"),
            ("classes.json", "[", "not JSON"),
        ],
    )
    def test_refused(self, name: str, text: str, message: str, tmp_path: Path) -> None:
        (tmp_path / name).write_text(text)
        with pytest.raises(InputRefused, match=message):
            read_classes(tmp_path / name)
        with pytest.raises(InputRefused, match=r"none.txt: cannot be read"):
            read_classes(tmp_path / "none.txt")


def test_held_out_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.arange(12, dtype=np.float32).reshape(4, 3, 1, 1)
    monkeypatch.setattr(digits, "held_out", lambda: (images, np.array([3, 0, 9, 1])))
    found = held_out_digits(network([1, 3, 1, 1]))
    assert (found.source, found.input, found.batch) == (digits.SOURCE, "x0", 1)
    assert found.classes == tuple("0123456789") and found.labels.tolist() == [3, 0, 9, 1]
    assert found.names[2] == "held-out digit 2"
    np.testing.assert_array_equal(found.read(1, 3), images[1:3])


def test_json_labels_keep_their_order(folder: Path) -> None:
    (folder / "labels.json").write_text(json.dumps({"cat/b.png": "b", "2/x.bmp": "a"}))
    assert labelled_folder(folder, TAKES_PIXELS).names == ("cat/b.png", "2/x.bmp")
