"""What `import bnn_deploy` offers."""

from __future__ import annotations

import importlib

import pytest

import bnn_deploy


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
        ("build_engine", "tensorrt.build"),
    ],
)
def test_function_is_that_of_its_room(name: str, home: str) -> None:
    assert getattr(bnn_deploy, name) is getattr(importlib.import_module(f"bnn_deploy.{home}"), name)


def test_submodule_is_the_module() -> None:
    assert bnn_deploy.nn is importlib.import_module("bnn_deploy.nn")


def test_name_that_there_is_not() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'load_modle'"):
        bnn_deploy.load_modle  # noqa: B018
    assert not hasattr(bnn_deploy, "torch")
