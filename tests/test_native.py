"""Where native libraries are looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from bnn_deploy.errors import InputRefused
from bnn_deploy.native import FILE_NAME, ONNXRUNTIME_KERNELS, TENSORRT_PLUGIN, NativeLibrary, find_library, library

BOTH = pytest.mark.parametrize("kind", [ONNXRUNTIME_KERNELS, TENSORRT_PLUGIN], ids=lambda kind: kind.title)


@BOTH
def test_places_in_the_package_and_in_the_source_tree(
    kind: NativeLibrary, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(kind.variable, raising=False)
    installed, built = kind.candidates()
    assert installed == repository / "bnn_deploy" / "lib" / kind.file_name
    assert built == repository / "build" / "plugins" / kind.folder / kind.file_name


@BOTH
def test_its_variable_comes_before_all_places(
    kind: NativeLibrary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(kind.variable, str(tmp_path / "mine.so"))
    assert kind.find() is None
    with pytest.raises(
        InputRefused, match=rf"{kind.title}: no file \S+/mine\.so; fix: make plugins, or set {kind.variable}"
    ):
        kind.path()
    (tmp_path / "mine.so").touch()
    assert kind.path() == kind.find() == tmp_path / "mine.so"


def test_the_short_names_are_of_the_one_for_onnxruntime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ONNXRUNTIME_KERNELS.variable, str(tmp_path / FILE_NAME))
    assert find_library() is None
    (tmp_path / FILE_NAME).touch()
    assert library() == find_library() == tmp_path / FILE_NAME
