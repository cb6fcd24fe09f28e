"""What the user gives as inputs, in files, becomes named arrays, or one line on what is wrong."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from bnn_deploy.errors import InputRefused
from bnn_deploy.feeds import Preprocessing, preprocessing_of, read_feeds

PLAIN = Preprocessing((0.0,), (1 / 255,))


def model(**inputs: list[int | str]) -> onnx.ModelProto:
    """A file with these inputs and nothing to compute."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    return helper.make_model(helper.make_graph([], "empty", values, []))


ONE = model(x=["batch", 1, 2, 3])
TWO = model(left=["batch", 3], right=["batch", 2])


def save(path: Path, array: Any) -> str:
    np.save(path, np.asarray(array))
    return str(path)


class TestPreprocessing:
    def test_survives_a_file(self) -> None:
        written = Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        file = model(x=[1])
        helper.set_model_props(file, {"other": "x", **written.to_metadata()})
        assert preprocessing_of(onnx.load_from_string(file.SerializeToString())) == written

    def test_may_be_absent(self) -> None:
        assert preprocessing_of(ONE) is None


class TestArrays:
    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
    def test_any_float_becomes_float32(self, dtype: Any, tmp_path: Path) -> None:
        array = np.arange(6).reshape(1, 1, 2, 3).astype(dtype)
        feeds = read_feeds(ONE, [save(tmp_path / "x.npy", array)], None)
        assert list(feeds) == ["x"]
        assert feeds["x"].dtype == np.float32 and feeds["x"].dtype.isnative
        np.testing.assert_array_equal(feeds["x"], array.astype(np.float32))

    def test_memory_order_does_not_matter(self, tmp_path: Path) -> None:
        array = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(1, 1, 2, 3))
        found = read_feeds(ONE, [save(tmp_path / "x.npy", array)], None)["x"]
        assert found.flags.c_contiguous
        np.testing.assert_array_equal(found, array)

    def test_in_order_or_by_name(self, tmp_path: Path) -> None:
        left, right = save(tmp_path / "a.npy", np.ones((1, 3))), save(tmp_path / "b.npy", np.zeros((1, 2)))
        for given in ([left, right], [f"left={left}", f"right={right}"], [f"right={right}", f"left={left}"]):
            feeds = read_feeds(TWO, given, None)
            assert {name: array.shape for name, array in feeds.items()} == {"left": (1, 3), "right": (1, 2)}

    def test_an_equals_sign_may_be_part_of_a_path(self, tmp_path: Path) -> None:
        folder = tmp_path / "run=1"
        folder.mkdir()
        assert read_feeds(ONE, [save(folder / "x.npy", np.ones(2))], None)["x"].tolist() == [1, 1]

    def test_one_npz_holds_all_by_name(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "all.npz", right=np.zeros((1, 2)), left=np.ones((1, 3), np.float32))
        feeds = read_feeds(TWO, [str(tmp_path / "all.npz")], None)
        assert {name: (array.shape, array.dtype) for name, array in feeds.items()} == {
            "left": ((1, 3), np.float32),
            "right": ((1, 2), np.float32),
        }

    @pytest.mark.parametrize("count", [0, 1, 3])
    def test_one_for_each_input(self, count: int, tmp_path: Path) -> None:
        given = [save(tmp_path / "x.npy", np.ones(1))] * count
        with pytest.raises(InputRefused, match=f"--input: {count} given; wanted: one for each of left, right"):
            read_feeds(TWO, given, None)


class TestRefused:
    @pytest.mark.parametrize("name", ["none.npy", "none.png", "none.npz"])
    def test_no_such_file(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(InputRefused, match=f"{name}: no such file; wanted: an .np"):
            read_feeds(ONE, [str(tmp_path / name)], PLAIN)

    def test_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(InputRefused, match="no such file"):
            read_feeds(ONE, [str(tmp_path)], None)

    @pytest.mark.parametrize("dtype", [np.int64, np.uint8, bool, np.complex64, "U3"])
    def test_values_that_are_no_floats(self, dtype: Any, tmp_path: Path) -> None:
        path = save(tmp_path / "x.npy", np.ones((1, 1, 2, 3)).astype(dtype))
        with pytest.raises(InputRefused, match=r"x.npy: values of type .*; wanted: float32; fix: array.astype"):
            read_feeds(ONE, [path], None)

    def test_pickled_objects_are_not_loaded(self, tmp_path: Path) -> None:
        class Bomb:
            def __reduce__(self) -> tuple[Any, ...]:
                return (Path.touch, (tmp_path / "exploded",))

        np.save(tmp_path / "x.npy", np.array([Bomb()], object), allow_pickle=True)
        np.savez(tmp_path / "x.npz", x=np.array([Bomb()], object))
        for name in ("x.npy", "x.npz"):
            with pytest.raises(InputRefused, match=rf"{name}: cannot be read: .*; wanted: .* without pickled objects"):
                read_feeds(ONE, [str(tmp_path / name)], None)
        assert not (tmp_path / "exploded").exists()

    def test_an_npz_among_several(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "one.npz", a=np.ones(1), b=np.ones(1))
        given = [f"left={tmp_path / 'one.npz'}", save(tmp_path / "b.npy", np.ones(1))]
        with pytest.raises(
            InputRefused, match=r"one.npz: several arrays \(a, b\); wanted: one array, or a single .npz"
        ):
            read_feeds(TWO, given, None)

    @pytest.mark.parametrize("kind", ["npy", "npz"])
    def test_a_damaged_file_is_read_or_refused(self, kind: str, tmp_path: Path) -> None:
        generator, path = random.Random(kind), tmp_path / f"x.{kind}"
        with path.open("wb") as file:
            (np.save if kind == "npy" else np.savez)(file, np.ones((3, 4), np.float32))
        whole = path.read_bytes()
        refused = 0
        for _ in range(300):
            damaged = bytearray(whole[: generator.randrange(len(whole))] if generator.random() < 0.4 else whole)
            for _ in range(generator.randrange(5)):
                if damaged:
                    damaged[generator.randrange(len(damaged))] = generator.randrange(256)
            path.write_bytes(damaged)
            try:
                read_feeds(ONE, [str(path)], None)
            except InputRefused:
                refused += 1
        assert refused > 150


class TestImages:
    @pytest.fixture
    def image(self, tmp_path: Path) -> str:
        path = tmp_path / "X.PNG"
        Image.fromarray(np.uint8([[10, 20, 30], [40, 50, 60]])).save(path)
        return str(path)

    @pytest.mark.parametrize("prefix", ["", "x="])
    def test_fits_the_input(self, prefix: str, image: str) -> None:
        found = read_feeds(ONE, [prefix + image], PLAIN)["x"]
        np.testing.assert_allclose(found, [[[[10, 20, 30], [40, 50, 60]]]], rtol=1e-6)

    @pytest.mark.parametrize("shape", [["batch", 1, "height", "width"], ["batch", 6], [1, 1, 2, "width"]])
    def test_wants_a_fixed_size(self, shape: list[int | str], image: str) -> None:
        with pytest.raises(InputRefused, match=r"no fixed image size; wanted: an .npy file"):
            read_feeds(model(x=shape), [image], PLAIN)

    def test_wants_a_normalisation(self, image: str) -> None:
        with pytest.raises(InputRefused, match="does not say how images are normalised; wanted: --mean and --deviat"):
            read_feeds(ONE, [image], None)

    def test_takes_one_or_three_channels(self, image: str) -> None:
        with pytest.raises(InputRefused, match="the network takes 5 channels"):
            read_feeds(model(x=[1, 5, 2, 3]), [image], PLAIN)
