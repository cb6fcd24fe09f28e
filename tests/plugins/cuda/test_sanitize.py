"""The script that runs every kernel under compute-sanitizer, without it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from driver import Library
from sanitize import find_tool, run_all

SCRIPT = Path(__file__).resolve().parents[3] / "plugins" / "cuda" / "sanitize.py"


def planted_tool(folder: Path, lines: str) -> dict[str, str]:
    """An environment with a compute-sanitizer that does what `lines` say; its first four arguments are its own."""
    tool = folder / "compute-sanitizer"
    tool.write_text(f"#!/bin/sh\n{lines}\n", "utf-8")
    tool.chmod(0o755)
    return os.environ | {"PATH": f"{folder}:/usr/bin:/bin"}


def run_script(*words: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_every_kernel_runs(library: Library, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_all(library) == 0
    assert capsys.readouterr().out == "every kernel ran\n"


def test_wrong_tile_is_named(
    library: Library, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = library.conv2d

    def planted(*arguments: Any, kernel: int = -1, **options: Any) -> dict[str, Any]:
        found = right(*arguments, kernel=kernel, **options)
        if kernel == 2 and "accumulator" in found:
            found["accumulator"].flat[-1] += 1
        return found

    monkeypatch.setattr(library, "conv2d", planted)
    assert run_all(library) == 1
    assert capsys.readouterr().err == "sanitize: case 2, tile 2: differs from the popcount kernel\n"


def test_both_tools_watch_it(library: Library, tmp_path: Path) -> None:
    environment = planted_tool(tmp_path, 'echo "watched by $2"; shift 4; exec "$@"')
    answer = run_script(str(library.path), environment=environment)
    assert answer.returncode == 0, answer.stderr
    assert [line for line in answer.stdout.splitlines() if "watched" in line] == [
        "watched by memcheck",
        "watched by racecheck",
    ]
    assert answer.stdout.count("every kernel ran") == 2


def test_what_a_tool_finds_is_the_exit_status(library: Library, tmp_path: Path) -> None:
    answer = run_script(str(library.path), environment=planted_tool(tmp_path, '[ "$2" = memcheck ]'))
    assert answer.returncode == 1


def test_without_a_library_status_is_2(tmp_path: Path) -> None:
    answer = run_script("no-such.so", environment={"PATH": str(tmp_path)})
    assert answer.returncode == 2
    assert answer.stderr == "sanitize: no-such.so is not there; make gpu-library\n"


def test_tool_is_looked_for_in_the_toolkit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    planted_tool(tmp_path / "bin", "")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assert find_tool() == str(tmp_path / "bin" / "compute-sanitizer")
