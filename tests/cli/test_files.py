from __future__ import annotations

from pathlib import Path

import pytest

from bnn_deploy.cli.files import model_file
from bnn_deploy.errors import InputRefused


def test_a_file_or_the_folder_that_it_is_in(tmp_path: Path) -> None:
    model, other = tmp_path / "model.onnx", tmp_path / "other.onnx"
    model.touch()
    other.touch()
    assert model_file(model) == model
    assert model_file(other) == other
    assert model_file(tmp_path) == model


def test_none_there(tmp_path: Path) -> None:
    wanted = "wanted: an ONNX file, or a folder that `bnn-deploy export` wrote"
    with pytest.raises(InputRefused, match=rf"none.onnx: no such file; {wanted}"):
        model_file(tmp_path / "none.onnx")
    with pytest.raises(InputRefused, match=rf"{tmp_path.name}: no model.onnx in it; {wanted}"):
        model_file(tmp_path)


def test_a_folder_of_that_name(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").mkdir()
    with pytest.raises(InputRefused, match=r"no model.onnx in it"):
        model_file(tmp_path)
