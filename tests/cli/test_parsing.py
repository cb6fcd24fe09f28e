"""From the text of an option to its value."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnn_deploy.cli import parsing
from bnn_deploy.errors import InputRefused


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=6))
def test_shape_is_read_back(sizes: list[int]) -> None:
    assert parsing.parse_shape("x".join(map(str, sizes))) == sizes


def test_shape_forgives_case_and_blanks_around_it() -> None:
    assert parsing.parse_shape(" 1X3x32X32\n") == [1, 3, 32, 32]


@pytest.mark.parametrize(
    "text", ["", "x", "1x", "x3", "1xx3", "0", "1x0x3", "-1x3", "1.5x3", "1x3x224 x224", "1,3,224", "axb", "²x3", "٣x3"]
)
def test_shape_refuses(text: str) -> None:
    with pytest.raises(InputRefused) as caught:
        parsing.parse_shape(text)
    assert caught.value.where == f"--input {text!r}"
    assert "1x3x224x224" in caught.value.fix


def test_shape_refuses_in_the_name_of_its_option() -> None:
    with pytest.raises(InputRefused) as caught:
        parsing.parse_shape("0x3", "--input-shape")
    assert (caught.value.where, caught.value.fix) == ("--input-shape '0x3'", "--input-shape 1x3x224x224")


@pytest.mark.parametrize(("text", "size"), [("224x192", [224, 192]), (" 1X32\n", [1, 32])])
def test_size(text: str, size: list[int]) -> None:
    assert parsing.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "x", "224", "1x", "0x3", "1x2x3", "1.5x3", "-1x3", "²x3"])
def test_size_refuses(text: str) -> None:
    with pytest.raises(InputRefused) as caught:
        parsing.parse_size(text)
    assert (caught.value.where, caught.value.fix) == (f"--size {text!r}", "")
    assert (caught.value.found, caught.value.wanted) == ("not a height and a width", "--size 224x192")


@given(st.text(max_size=12))
def test_shape_refuses_or_gives_sizes_of_1_or_more(text: str) -> None:
    try:
        sizes = parsing.parse_shape(text)
    except InputRefused:
        return
    assert sizes
    assert min(sizes) >= 1


NESTED = {"num_classes": 10, "stem": {"kernel": [3, 3]}}


@pytest.mark.parametrize(("text", "value"), [(None, {}), ("{}", {}), (json.dumps(NESTED), NESTED)])
def test_kwargs(text: str | None, value: dict[str, object]) -> None:
    assert parsing.parse_kwargs(text) == value


@pytest.mark.parametrize("text", ["", "num_classes=10", "{'a': 1}", "[1]", "null", "3", '"text"'])
def test_kwargs_refuses(text: str) -> None:
    with pytest.raises(InputRefused, match=r"--kwargs: .*wanted: a JSON object"):
        parsing.parse_kwargs(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("batch", "batch"),
        ("batch,spatial", "batch,spatial"),
        ("spatial, batch", "batch,spatial"),
        ("None", "none"),
    ],
)
def test_dynamic(text: str, value: str) -> None:
    assert parsing.parse_dynamic(text) == value


@pytest.mark.parametrize("text", ["", "spatial", "batch,none", "none,batch", "height", "batch,"])
def test_dynamic_refuses(text: str) -> None:
    with pytest.raises(InputRefused, match="wanted: batch, batch,spatial or none"):
        parsing.parse_dynamic(text)


@pytest.mark.parametrize("text", [None, "module:function", "package.module:function", "a b/c.py:function"])
def test_function(text: str | None) -> None:
    assert parsing.parse_function("--prepare", text) == text


@pytest.mark.parametrize(
    "text", ["", "module", ":function", "module:", "a:b:c", "a..b:c", "file.py:", "a b:c", "a/b:c"]
)
def test_function_refuses(text: str) -> None:
    with pytest.raises(InputRefused, match="--prepare"):
        parsing.parse_function("--prepare", text)


def test_file_must_be_there(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    with pytest.raises(InputRefused, match="no such file"):
        parsing.existing_file("--checkpoint", file)
    with pytest.raises(InputRefused, match="a folder"):
        parsing.existing_file("--checkpoint", tmp_path)
    file.touch()
    assert parsing.existing_file("--checkpoint", file) == str(file)
    assert parsing.existing_file("--checkpoint", None) is None


def test_folder_must_be_there(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with pytest.raises(InputRefused, match="no such folder"):
        parsing.existing_folder("--sys-path", file)
    file.touch()
    with pytest.raises(InputRefused, match="a file"):
        parsing.existing_folder("--sys-path", file)
    assert parsing.existing_folder("--sys-path", tmp_path) == str(tmp_path)


def test_output_folder_need_not_be_there_but_must_be_possible(tmp_path: Path) -> None:
    assert parsing.output_folder("--out", tmp_path) == str(tmp_path)
    assert parsing.output_folder("--out", tmp_path / "new" / "deep") == str(tmp_path / "new" / "deep")
    file = tmp_path / "file"
    file.touch()
    for taken in (file, file / "below"):
        with pytest.raises(InputRefused, match="is a file"):
            parsing.output_folder("--out", taken)
