"""How pycuda gets into the bundle for a GPU machine, and is built from it: without a network or a compiler."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks" / "gpu"))

import contents
import packages
import stages
import try_pycuda

pytestmark = pytest.mark.skipif(os.name == "nt", reason="a bundle is run by a shell script")


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that would have been run; what they fetch or build is an empty file or folder."""
    ran: list[list[str]] = []

    def note(command: list[Any], **_: Any) -> subprocess.CompletedProcess[str]:
        words = [*map(str, command)]
        ran.append(words)
        if "download" in words:
            folder = Path(words[words.index("-d") + 1])
            folder.mkdir(parents=True, exist_ok=True)
            (folder / ("pycuda-1.tar.gz" if "--no-binary=pycuda" in words else "other.whl")).touch()
        return subprocess.CompletedProcess(words, 0, "", "")

    monkeypatch.setattr(subprocess, "run", note)
    return ran


def test_pycuda_is_fetched_as_source_with_wheels_of_the_rest(commands: list[list[str]], tmp_path: Path) -> None:
    (tmp_path / "of-another-python.whl").touch()
    assert [name for name, _ in packages.pycuda("3.13", tmp_path)] == ["other.whl", "pycuda-1.tar.gz"]
    rest, source = commands
    assert rest[rest.index("--python-version") + 1] == "3.13" and "--only-binary=:all:" in rest
    wanted = [*packages.PYCUDA_BUILD, *packages.PYCUDA_IMPORTS]
    assert rest[-len(wanted) :] == wanted and source[-1] == packages.PYCUDA
    assert all("==" in word for word in (*wanted, packages.PYCUDA)) and all("--no-deps" in words for words in commands)


def test_what_pip_cannot_fetch_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "WARNING: this\nERROR: no such version\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(contents.Missing, match=r"^pycuda==.*: ERROR: no such version"):
        packages.fetch([packages.PYCUDA], [], tmp_path)


def try_it(folder: Path, monkeypatch: pytest.MonkeyPatch, driver: Path | None) -> int:
    """The stage, where there is a compiler; `Python.h` is looked for in the folder."""
    monkeypatch.setattr(try_pycuda, "driver", lambda: driver)
    monkeypatch.setattr(sys, "argv", ["try_pycuda.py", "--packages", str(folder)])
    monkeypatch.setattr(try_pycuda, "compiler", lambda: sys.executable)
    monkeypatch.setattr(try_pycuda.sysconfig, "get_path", lambda _: str(folder))
    return try_pycuda.main()


def test_it_is_not_available_without_what_building_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], commands: list[list[str]]
) -> None:
    assert try_it(tmp_path, monkeypatch, None) == stages.NOT_AVAILABLE and not commands
    python, driver = f"Python's headers ({tmp_path / 'Python.h'})", "NVIDIA's driver (libcuda.so.1)"
    assert capsys.readouterr().out == f"{python} and {driver} missing\n"


def test_the_compiler_is_the_one_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/nowhere/g++ -pthread")
    assert "a C++ compiler (/nowhere/g++)" in try_pycuda.lacking()


def unpacked(folder: Path) -> Path:
    """What is where the bundle was unpacked, and Python's header; where the source will be."""
    source = folder / packages.PYCUDA.replace("==", "-")
    (folder / "tools" / "nvidia" / "cu1" / "include").mkdir(parents=True)
    (folder / "setup.py").touch()
    (folder / "Python.h").touch()
    with tarfile.open(f"{source}.tar.gz", "w:gz") as archive:
        archive.add(folder / "setup.py", f"{source.name}/setup.py")
    return source


def test_it_is_built_once_then_opened_and_tested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commands: list[list[str]]
) -> None:
    source, driver = unpacked(tmp_path), Path("/driver/libcuda.so.1")
    assert try_it(tmp_path, monkeypatch, driver) == 0
    kinds = ("wheel", "install", "-c", "pytest")
    done = [next(kind for kind in kinds if kind in words) for words in commands]
    assert done == ["install", "wheel", "install", "-c", "pytest"]
    assert all("--no-index" in words for words in commands[:3])
    assert commands[-1][-1].endswith("tests/gpu/device_pycuda.py") and Path(commands[-1][-1]).is_file()
    settings = (source / "siteconf.py").read_text()
    assert f"LDFLAGS = ['{driver}']" in settings and str(tmp_path / "tools/nvidia/cu1/include") in settings
    commands.clear()
    (tmp_path / "site" / "pycuda").mkdir(parents=True)
    assert try_it(tmp_path, monkeypatch, driver) == 0 and len(commands) == 2


@pytest.mark.parametrize("failing", ["wheel", "-c", "pytest"])
def test_one_that_does_not_work_is_a_failure(failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(words: list[Any], **_: Any) -> None:
        if failing in words:
            raise subprocess.CalledProcessError(1, words)

    unpacked(tmp_path)
    monkeypatch.setattr(subprocess, "run", run)
    assert try_it(tmp_path, monkeypatch, tmp_path) == 1


def test_the_source_may_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], commands: list[list[str]]
) -> None:
    (tmp_path / "Python.h").touch()
    assert try_it(tmp_path, monkeypatch, tmp_path) == 1
    assert capsys.readouterr().err.startswith("error: [Errno 2] No such file")
