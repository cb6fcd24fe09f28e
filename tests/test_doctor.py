"""What `doctor` finds, on machines that lack one thing or another."""

from __future__ import annotations

import importlib.util
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from bnn_deploy import doctor
from bnn_deploy.doctor import Finding, Program, State, examine, is_ready


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The distributions and versions that there are, as if; empty at first. Modules are all there."""
    versions: dict[str, str] = {}

    def version(distribution: str) -> str:
        if distribution not in versions:
            raise metadata.PackageNotFoundError(distribution)
        return versions[distribution]

    monkeypatch.setattr(doctor.metadata, "version", version)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: importlib.util.spec_from_loader(name, None))
    return versions


def _finding(name: str) -> Finding:
    return next(finding for finding in examine() if finding.name == name)


def test_this_machine_is_ready() -> None:
    findings = examine()
    assert is_ready(findings)
    assert _finding("torch").found == metadata.version("torch")
    assert _finding("python").found.startswith(".".join(map(str, sys.version_info[:3])))


def test_names_are_unique() -> None:
    names = [finding.name for finding in examine()]
    assert len(names) == len(set(names))


def test_whatever_is_not_ok_has_a_cost_and_a_fix(installed: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda _name: None)
    for variable in ("BNN_DEPLOY_NATIVE_LIBRARY", "BNN_DEPLOY_TENSORRT_PLUGIN"):
        monkeypatch.setenv(variable, "/nowhere/none.so")
    missing = [finding for finding in examine() if finding.state is not State.OK]
    assert len(missing) == len(doctor.PACKAGES) + len(doctor.PROGRAMS) + 2
    assert all(finding.cost and finding.fix for finding in missing)
    assert not is_ready(missing)


def test_the_native_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BNN_DEPLOY_NATIVE_LIBRARY", str(tmp_path / "none.so"))
    finding = _finding("native CPU library")
    assert finding.state is State.MISSING and not finding.required
    assert "make plugins" in finding.fix and "float" in finding.cost
    (tmp_path / "none.so").touch()
    assert _finding("native CPU library") == Finding("native CPU library", State.OK, str(tmp_path / "none.so"))


def test_the_tensorrt_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BNN_DEPLOY_TENSORRT_PLUGIN", str(tmp_path / "none.so"))
    finding = _finding("TensorRT plugin")
    assert finding.state is State.MISSING and not finding.required
    assert "make plugins, with nvcc" in finding.fix and "BNN_DEPLOY_TENSORRT_PLUGIN" in finding.fix
    (tmp_path / "none.so").touch()
    assert _finding("TensorRT plugin") == Finding("TensorRT plugin", State.OK, str(tmp_path / "none.so"))


def test_required_packages_are_those_that_the_package_depends_on(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text("utf-8"))["project"]
    required = {f"{package.distributions[0]}>={package.minimum}" for package in doctor.PACKAGES if package.required}
    assert required == set(project["dependencies"])


@pytest.mark.parametrize(
    ("version", "state"),
    [
        ("2.13.0+cpu", State.OK),
        ("2.9", State.OK),
        ("2.9.1rc1", State.OK),
        ("3.0", State.OK),
        ("2.8.1", State.PROBLEM),
        ("1.13", State.PROBLEM),
    ],
)
def test_version_is_compared_by_its_numbers(version: str, state: State, installed: dict[str, str]) -> None:
    installed["torch"] = version
    finding = _finding("torch")
    assert finding.state is state
    assert finding.required
    assert finding.found.startswith(version)
    assert is_ready([finding]) == (state is State.OK)


def test_onnxruntime_for_the_gpu_will_do(installed: dict[str, str]) -> None:
    installed["onnxruntime-gpu"] = "1.32.0"
    finding = _finding("onnxruntime")
    assert finding == Finding("onnxruntime", State.OK, "1.32.0 (onnxruntime-gpu)", required=True)


def test_two_onnxruntimes_are_a_problem_but_not_the_end(installed: dict[str, str]) -> None:
    installed.update({"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.31.0"})
    finding = _finding("onnxruntime")
    assert finding.state is State.PROBLEM
    assert finding.found == "onnxruntime and onnxruntime-gpu are both installed"
    assert is_ready([finding])


def test_metadata_without_files_is_a_problem(installed: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    installed["onnx"] = "1.23.2"
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    assert _finding("onnx").found == "1.23.2, but its files are gone"
    assert _finding("models").state is State.MISSING


def _program(folder: Path, name: str, script: str) -> Program:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
    path.chmod(0o755)
    return Program("tool", (("absent-program", "--version"), (str(path), "--version")), "the cost", "the fix")


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ('echo "A compiler"; echo "release 13.0"', Finding("tool", State.OK, "release 13.0")),
        ('[ "$1" = --version ] && echo "v1.2"', Finding("tool", State.OK, "v1.2")),
    ],
)
def test_program_answers(script: str, expected: Finding, tmp_path: Path) -> None:
    assert doctor._examine_program(_program(tmp_path, "tool", script)) == expected


@pytest.mark.parametrize("script", ["exit 9", 'echo "driver not loaded"', "printf '\\377\\n'", "sleep 60"])
def test_program_that_fails_is_a_problem(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PROGRAM_TIMEOUT_SECONDS", 0.2 if "sleep" in script else 10)
    finding = doctor._examine_program(_program(tmp_path, "tool", script))
    assert finding.state is State.PROBLEM
    assert finding.found == f"{tmp_path / 'tool'} does not answer"
    assert finding.fix == "the fix"


def test_program_that_is_absent_is_missing() -> None:
    finding = doctor._examine_program(Program("tool", (("absent-program",),), "the cost", "the fix"))
    assert finding == Finding("tool", State.MISSING, "", False, "the cost", "the fix")
