"""What a GPU bundle does once it is unpacked, stage by stage. Needs nothing but Python."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LONGEST_ROW = 100_000


@dataclass(frozen=True)
class Workplace:
    """Where the bundle is unpacked, and how it is run.

    Attributes:
        root: The folder.
        dry: Whether the host executor stands for the GPU.
        quick: Whether to measure less.
        commit: What the bundle was made of.
    """

    root: Path
    dry: bool = False
    quick: bool = False
    commit: str = ""

    @property
    def tree(self) -> Path:
        """The source tree, with what is built in it."""
        return self.root / "tree"

    @property
    def models(self) -> Path:
        """The exported models, a folder each."""
        return self.tree / "build" / "gpu-models"

    @property
    def results(self) -> Path:
        """What stages write."""
        return self.root / "results"

    @property
    def kernels(self) -> Path:
        """The library of kernels."""
        name = "host/libbnn_deploy_cuda_host.so" if self.dry else "libbnn_deploy_cuda.so"
        return self.tree / "build" / "plugins" / "cuda" / name

    @property
    def plugin(self) -> Path:
        """The TensorRT plugin."""
        name = "libbnn_deploy_tensorrt_host.so" if self.dry else "libbnn_deploy_tensorrt.so"
        return self.tree / "build" / "plugins" / "tensorrt" / name

    def environment(self) -> dict[str, str]:
        """Of every stage. The plugin's host executor has memory of its own, so a dry run names no other library."""
        paths = [str(self.root / "site"), str(self.tree)]
        names = {"BNN_TENSORRT_LIBRARY": str(self.plugin)} | (
            {} if self.dry else {"BNN_CUDA_LIBRARY": str(self.kernels)}
        )
        return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1", **names}


@dataclass(frozen=True)
class Stage:
    """A command, run in the source tree.

    Attributes:
        name: Of the stage.
        command: The words.
        seconds: The longest that it may take.
        variables: Beside those of the workplace.
        result: A folder whose JSON files become part of the report.
    """

    name: str
    command: Sequence[str | Path]
    seconds: float
    variables: Mapping[str, str] = field(default_factory=dict)
    result: Path | None = None


INSTALL = ("-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-compile", "--upgrade", "--target")
PYTEST = ("-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider")
NAMES = ("wheels", "kernels", "sanitizer", "plugin host", "end to end", "bench")


def stages(place: Workplace) -> list[Stage]:
    """All of `NAMES` that there is something to do for, in the order in which what fails is told apart best."""
    tree, gpu = place.tree, place.tree / "benchmarks" / "gpu"
    python: list[str | Path] = [sys.executable]
    wheels = sorted((place.root / "wheels").glob("*.whl"))
    install, pytest = [*python, *INSTALL], [*python, *PYTEST]
    kernels, host = tree / "tests" / "plugins" / "cuda", tree / "tests" / "plugins" / "tensorrt"
    networks: list[str | Path] = ["--kernels", place.plugin if place.dry else place.kernels, "--plugin", place.plugin]
    bench: list[str | Path] = ["--library", place.kernels, "--programs", tree / "build" / "gpu" / "programs"]
    bench += ["--output", place.results / "bench", "--commit", place.commit]
    bench += ["--dry-run", "--no-torch"] if place.dry else ["--quick"] if place.quick else []
    dry = ["--dry-run"] if place.dry else []
    cuda = {"BNN_CUDA_LIBRARY": str(place.kernels)}
    found = [
        Stage("kernels", [*pytest, kernels / "test_pack.py" if place.dry else kernels], 480, cuda),
        Stage("plugin host", [*pytest, host / "test_fields.py" if place.dry else host], 480),
        Stage("end to end", [*python, gpu / "end_to_end.py", *networks, "--models", place.models, *dry], 480),
        Stage("bench", [*python, gpu / "bench_gpu.py", *bench], 540, result=place.results / "bench"),
    ]
    if wheels and not place.dry:  # they are for the Python of the GPU machine, and for TensorRT
        found.insert(0, Stage("wheels", [*install, place.root / "site", *wheels], 120))
    if not place.dry:  # a tool for a GPU's memory has no business in the host executor
        sanitizer = Stage("sanitizer", [*python, tree / "plugins" / "cuda" / "sanitize.py", place.kernels], 330)
        found.insert(-3, sanitizer)
    return found


def run_stage(stage: Stage, place: Workplace, log: Path) -> dict[str, Any]:
    """Runs a stage; what it prints goes to the end of the log.

    Returns:
        `status`, which is `passed`, `failed` or `timed out`; `seconds`, `last_line`; `rows`, the lines that are JSON
        objects; `files`, the content of the JSON files that it wrote.
    """
    begin, start = time.monotonic(), log.stat().st_size if log.is_file() else 0
    with log.open("ab") as out:
        out.write(f"==== {stage.name}: {' '.join(map(str, stage.command))}\n".encode())
        out.flush()
        said = out.tell()
        status = _run(stage, place, out)
    with log.open("rb") as content:
        content.seek(max(said, start))
        lines = [line for line in content.read().decode(errors="replace").splitlines() if line.strip()]
    files = sorted(stage.result.glob("*.json")) if stage.result is not None else []
    return {
        "status": status,
        "seconds": round(time.monotonic() - begin, 1),
        "last_line": lines[-1] if lines else "",
        "rows": [row for row in map(_row, lines) if row is not None],
        "files": {path.name: json.loads(path.read_text("utf-8")) for path in files},
    }


def _run(stage: Stage, place: Workplace, out: Any) -> str:
    place.results.mkdir(parents=True, exist_ok=True)
    try:
        process = subprocess.Popen(
            [str(word) for word in stage.command],
            cwd=place.tree,
            env={**place.environment(), **stage.variables},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        out.write(f"{error}\n".encode())
        return "failed"
    try:
        return "passed" if process.wait(stage.seconds) == 0 else "failed"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return "timed out"


def _row(line: str) -> dict[str, Any] | None:
    """A line that is a JSON object, or None."""
    if not line.startswith("{") or len(line) > LONGEST_ROW:
        return None
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None
