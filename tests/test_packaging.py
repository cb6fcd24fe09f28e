"""The package as it is installed: from a wheel, and from the tree."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from packaging.requirements import Requirement

from bnn_deploy.native import FILE_NAME

WHERE_IS_THE_ZOO = "import importlib.util; print(importlib.util.find_spec('bnn_deploy.models').origin)"


@pytest.fixture(scope="module")
def root() -> Path:
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def project(root: Path) -> dict[str, Any]:
    """What `pyproject.toml` says."""
    return tomllib.loads((root / "pyproject.toml").read_text("utf-8"))


def _pins(path: Path) -> dict[str, str]:
    """The versions in a requirements file; a line that is no pin is an error."""
    lines = (line.split("#")[0].strip() for line in path.read_text("utf-8").splitlines())
    requirements = [Requirement(line) for line in lines if line and not line.startswith("-r ")]
    assert [str(entry) for entry in requirements if not re.fullmatch(r"==[^,*]+", str(entry.specifier))] == []
    return {entry.name: str(entry.specifier).removeprefix("==") for entry in requirements}


def test_every_folder_of_sources_is_listed(root: Path, project: dict[str, Any]) -> None:
    folders = {
        path.parent.relative_to(root) for folder in ("bnn_deploy", "models") for path in (root / folder).rglob("*.py")
    }
    names = {".".join(folder.parts) for folder in folders}
    names = {f"bnn_deploy.{name}" if name.split(".")[0] == "models" else name for name in names}
    assert sorted(names) == sorted(project["tool"]["setuptools"]["packages"])


@pytest.mark.parametrize(("extra", "file"), [(None, "runtime"), ("dev", "dev"), ("train", "data")])
def test_direct_dependencies_are_pinned_within_their_range(
    extra: str | None, file: str, root: Path, project: dict[str, Any]
) -> None:
    table = project["project"]
    files = {file, "runtime"}  # `dev.txt` begins with `runtime.txt`
    pins = {name: pin for each in files for name, pin in _pins(root / "requirements" / f"{each}.txt").items()}
    for text in table["optional-dependencies"][extra] if extra else table["dependencies"]:
        requirement = Requirement(text)
        assert pins[requirement.name] in requirement.specifier, f"{requirement} in requirements/{file}.txt"


def test_no_package_is_pinned_twice(root: Path) -> None:
    names = [name for file in (root / "requirements").glob("*.txt") for name in _pins(file)]
    assert sorted(set(names)) == sorted(names)


def test_extras_are_those_of_the_interface(project: dict[str, Any]) -> None:
    extras = project["project"]["optional-dependencies"]
    assert extras.keys() == {"gpu", "rtx", "train", "dev"}
    assert {Requirement(text).name for text in extras["gpu"]} == {"onnxruntime-gpu", "tensorrt", "pycuda"}
    assert {Requirement(text).name for text in extras["rtx"]} == {"tensorrt-rtx"}


@pytest.fixture(scope="module")
def tree(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a wheel is made of: building leaves files behind."""
    tree = tmp_path_factory.mktemp("tree")
    for folder in ("bnn_deploy", "models", "plugins"):
        shutil.copytree(root / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(root / file, tree / file)
    return tree


def _build_wheel(tree: Path, out: Path, **environment: str) -> None:
    shutil.rmtree(tree / "build", ignore_errors=True)
    build = f"from setuptools import build_meta; build_meta.build_wheel({str(out)!r})"
    variables = {**os.environ, **environment}
    subprocess.run([sys.executable, "-c", build], cwd=tree, check=True, capture_output=True, env=variables)


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    _build_wheel(tree, out)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def names_in_wheel(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_wheel_has_every_source(root: Path, names_in_wheel: set[str]) -> None:
    library = {str(path.relative_to(root)) for path in (root / "bnn_deploy").rglob("*.py")}
    zoo = {f"bnn_deploy/{path.relative_to(root)}" for path in (root / "models").rglob("*.py")}
    assert library | zoo == {name for name in names_in_wheel if name.endswith(".py")}


def test_wheel_has_the_trained_weights(root: Path, names_in_wheel: set[str]) -> None:
    shipped = {f"bnn_deploy/models/weights/{path.name}" for path in (root / "models" / "weights").glob("*.safetensors")}
    assert shipped == {name for name in names_in_wheel if name.endswith(".safetensors")}


def test_wheel_has_the_native_library(wheel: Path, names_in_wheel: set[str], tmp_path: Path) -> None:
    """Built here, where a missing compiler would be a failure of the set-up; for any Python of this platform."""
    name = f"bnn_deploy/lib/{FILE_NAME}"
    assert name in names_in_wheel
    assert re.fullmatch(r"bnn_deploy-.*-py3-none-(?!any).+\.whl", wheel.name)
    with zipfile.ZipFile(wheel) as archive:
        archive.extract(name, tmp_path)
    onnxruntime.SessionOptions().register_custom_ops_library(str(tmp_path / name))


def test_wheel_without_a_compiler_is_for_any_platform(tree: Path, tmp_path: Path) -> None:
    _build_wheel(tree, tmp_path, BNN_DEPLOY_BUILD_NATIVE="0")
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert not [name for name in archive.namelist() if name.startswith("bnn_deploy/lib/")]


def test_wheel_has_nothing_else(names_in_wheel: set[str]) -> None:
    assert {name.split("/")[0].split("-")[0] for name in names_in_wheel} == {"bnn_deploy"}


def test_wheel_has_the_command(wheel: Path, names_in_wheel: set[str]) -> None:
    entry_points = next(name for name in names_in_wheel if name.endswith("entry_points.txt"))
    with zipfile.ZipFile(wheel) as archive:
        assert "bnn-deploy = bnn_deploy.cli.main:main" in archive.read(entry_points).decode()


def test_wheel_is_importable_where_nothing_else_is(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import bnn_deploy; {WHERE_IS_THE_ZOO}"
    answer = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == str(tmp_path / "bnn_deploy" / "models" / "__init__.py")


@pytest.mark.parametrize("inside_the_tree", [True, False])
def test_zoo_is_found_wherever_one_stands(inside_the_tree: bool, root: Path, tmp_path: Path) -> None:
    """In the root of the tree Python finds a folder `bnn_deploy` by itself, and in that there is no `models`."""
    folder = root if inside_the_tree else tmp_path
    answer = subprocess.run(
        [sys.executable, "-c", WHERE_IS_THE_ZOO], cwd=folder, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == str(root / "models" / "__init__.py")
