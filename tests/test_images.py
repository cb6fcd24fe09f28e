"""From an image file to an array: fitted, normalised, or refused."""

from __future__ import annotations

import random
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bnn_deploy.errors import InputRefused
from bnn_deploy.images import SUFFIXES, images_below, load_image

ONE = {"mean": (0.0,), "deviation": (1 / 255,)}  # grey values as they are


def save(path: Path, pixels: object, mode: str | None = None) -> Path:
    image = Image.fromarray(np.asarray(pixels, np.uint8))
    (image.convert(mode) if mode else image).save(path)
    return path


def test_normalisation_of_grey_and_colour(tmp_path: Path) -> None:
    grey = save(tmp_path / "grey.png", [[0, 51], [102, 255]])
    found = load_image(grey, (1, 2, 2), mean=[0.2], deviation=[0.5])
    assert found.dtype == np.float32 and found.flags.c_contiguous
    expected = (np.array([[0, 0.2], [0.4, 1]]) - 0.2) / 0.5
    np.testing.assert_allclose(found, expected[None, None], rtol=1e-6, atol=1e-7)

    colour = save(tmp_path / "colour.png", [[[255, 0, 51]]])
    found = load_image(colour, (3, 1, 1), mean=(0.485, 0.456, 0.406), deviation=(0.229, 0.224, 0.225))
    assert found.shape == (1, 3, 1, 1)
    expected = [(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (0.2 - 0.406) / 0.225]
    np.testing.assert_allclose(found.ravel(), expected, rtol=1e-6)


def test_channels_are_those_of_the_network(tmp_path: Path) -> None:
    grey = save(tmp_path / "grey.png", [[10, 20]])
    assert load_image(grey, (3, 1, 2), **ONE).ravel().tolist() == pytest.approx([10, 20] * 3)
    colour = save(tmp_path / "colour.png", [[[255, 0, 0]]])
    assert load_image(colour, (1, 1, 1), **ONE).item() == pytest.approx(76, abs=1)  # ITU-R 601: 0.299 red
    see_through = tmp_path / "alpha.png"
    Image.fromarray(np.uint8([[[255, 0, 0, 0]]]), "RGBA").save(see_through)
    assert load_image(see_through, (3, 1, 1), **ONE).ravel().tolist() == pytest.approx([255, 0, 0])


@pytest.mark.parametrize(
    ("height", "width", "top", "left"), [(4, 4, 0, 0), (6, 6, 1, 1), (7, 7, 2, 2), (4, 9, 0, 3), (5, 8, 1, 2)]
)
def test_a_smaller_image_is_centred_on_black(height: int, width: int, top: int, left: int, tmp_path: Path) -> None:
    pixels = np.arange(1, 17).reshape(4, 4)
    found = load_image(save(tmp_path / "x.png", pixels), (1, height, width), **ONE)[0, 0]
    expected = np.zeros((height, width))
    expected[top : top + 4, left : left + 4] = pixels
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_larger_image_is_scaled_and_cut_to_the_middle(tmp_path: Path) -> None:
    """40 x 80 pixels, 3 times the column each, to 20 x 20: scaled to 20 x 40, of which columns 10 to 29 are kept."""
    pixels = np.broadcast_to(3 * np.arange(80), (40, 80))
    wide = load_image(save(tmp_path / "wide.png", pixels), (1, 20, 20), **ONE)[0, 0]
    expected = 3 * (2 * np.arange(10, 30) + 0.5)
    np.testing.assert_allclose(wide, np.broadcast_to(expected, (20, 20)), atol=1)

    tall = load_image(save(tmp_path / "tall.png", pixels.T), (1, 20, 20), **ONE)[0, 0]
    np.testing.assert_array_equal(tall, wide.T)


@pytest.mark.parametrize(("image", "network"), [((30, 10), (20, 20)), ((10, 30), (20, 20)), ((21, 20), (20, 20))])
def test_one_side_larger_covers_the_input(image: tuple[int, int], network: tuple[int, int], tmp_path: Path) -> None:
    found = load_image(save(tmp_path / "x.png", np.full(image, 200)), (1, *network), **ONE)
    assert found.shape == (1, 1, *network)
    np.testing.assert_allclose(found, 200, atol=1e-3)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_by_its_suffix(suffix: str, tmp_path: Path) -> None:
    found = load_image(save(tmp_path / f"x{suffix}", np.full((8, 8), 128)), (1, 8, 8), **ONE)
    np.testing.assert_allclose(found, 128, atol=2)


@pytest.mark.parametrize(
    ("shape", "mean", "deviation", "message"),
    [
        ((4, 8, 8), [0], [1], r"an image, and the network takes 4 channels; wanted: an .npy file"),
        ((3, 8, 8), [0, 0], [1], "the mean of images: 2 numbers; wanted: one, or one for each of 3"),
        ((1, 8, 8), [0], [1, 1, 1], "the deviation of images: 3 numbers; wanted: one, or one for each of 1"),
        ((3, 8, 8), [0], [1, 0, 1], "the deviation of images: 0; wanted: numbers other than 0"),
    ],
)
def test_what_does_not_fit_the_network(
    shape: tuple[int, int, int], mean: list[float], deviation: list[float], message: str, tmp_path: Path
) -> None:
    path = save(tmp_path / "x.png", np.zeros((8, 8)))
    with pytest.raises(InputRefused, match=message):
        load_image(path, shape, mean=mean, deviation=deviation)


def test_no_image(tmp_path: Path) -> None:
    path = tmp_path / "notes.png"
    path.write_text("not an image")
    with pytest.raises(InputRefused, match=r"notes.png: cannot be read as an image: .*; wanted: an image file or"):
        load_image(path, (1, 8, 8), **ONE)
    with pytest.raises(InputRefused, match="cannot be read as an image"):
        load_image(tmp_path / "none.png", (1, 8, 8), **ONE)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_damaged_image_is_read_or_refused(suffix: str, tmp_path: Path) -> None:
    """Whatever its format's reader raises, the user sees one line."""
    generator = random.Random(suffix)
    path = save(tmp_path / f"x{suffix}", np.random.default_rng(0).integers(0, 256, (12, 9, 3)), "RGB")
    whole = path.read_bytes()
    for _ in range(60):
        damaged = bytearray(whole[: generator.randrange(len(whole))] if generator.random() < 0.3 else whole)
        for _ in range(generator.randrange(4)):
            if damaged:
                damaged[generator.randrange(min(len(damaged), 120))] = generator.randrange(256)
        path.write_bytes(damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                assert load_image(path, (3, 8, 8), **ONE).shape == (1, 3, 8, 8)
            except InputRefused as refused:
                assert str(path) in str(refused)


def test_images_below_a_folder(tmp_path: Path) -> None:
    (tmp_path / "b" / "folder.png").mkdir(parents=True)
    for name in ("c.PNG", "b/a.jpeg", "b/folder.png/x.bmp", "a.txt"):
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in images_below(tmp_path)]
    assert found == ["b/a.jpeg", "b/folder.png/x.bmp", "c.PNG"]
