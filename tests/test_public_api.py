"""What `import bnn_deploy` offers."""

from __future__ import annotations

import importlib

import pytest

import bnn_deploy
from bnn_deploy.errors import NotYetAvailable


@pytest.mark.parametrize("name", bnn_deploy.__all__)
def test_every_name_is_there_and_listed(name: str) -> None:
    assert getattr(bnn_deploy, name) is not None
    assert name in dir(bnn_deploy)


@pytest.mark.parametrize(
    ("name", "home"),
    [
        ("load_model", "loading"),
        ("export_onnx", "export"),
        ("check_parity", "pipeline"),
        ("benchmark", "benchmarking"),
    ],
)
def test_function_is_that_of_its_room(name: str, home: str) -> None:
    assert getattr(bnn_deploy, name) is getattr(importlib.import_module(f"bnn_deploy.{home}"), name)


def test_submodule_is_the_module() -> None:
    assert bnn_deploy.nn is importlib.import_module("bnn_deploy.nn")


@pytest.mark.parametrize("name", ["build_engine"])
def test_later_function_says_so_whatever_it_is_given(name: str) -> None:
    with pytest.raises(NotYetAvailable, match=f"bnn_deploy.{name}: not in this version"):
        getattr(bnn_deploy, name)("out/model.onnx", ["onnxruntime"], batch=1)


def test_name_that_there_is_not() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'load_modle'"):
        bnn_deploy.load_modle  # noqa: B018
    assert not hasattr(bnn_deploy, "torch")
