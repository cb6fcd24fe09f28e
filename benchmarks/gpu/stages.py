"""What a GPU bundle does once it is unpacked, stage by stage. Needs nothing but Python."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LONGEST_ROW = 100_000
NOT_AVAILABLE = 77  # exit status of a command that the machine lacks something for
ENDING_SECONDS = 20.0  # what is left to a command that ends by itself to write its results
GRACE_SECONDS = 10.0  # for a command that is asked to end, and then for one that is ended


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
        paths = [str(self.root / "site"), str(self.tree), *filter(None, [os.environ.get("PYTHONPATH")])]
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
        minutes: Whether it takes an option of that name, after which it ends by itself.
    """

    name: str
    command: Sequence[str | Path]
    seconds: float
    variables: Mapping[str, str] = field(default_factory=dict)
    result: Path | None = None
    minutes: bool = False

    def words(self, seconds: float) -> list[str]:
        """The command, where there is so much time."""
        ending = ["--minutes", f"{max(seconds - ENDING_SECONDS, 1) / 60:.2f}"] if self.minutes else []
        return [*map(str, self.command), *ending]


PROBED = "birealnet"  # the network that TensorRT is tried with
INSTALL = ("-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-compile", "--upgrade", "--target")
PYTEST = ("-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "--maxfail", "8")
# About the host executor, or about machine code: they have nothing to ask a GPU.
EXECUTOR_TESTS = ("test_check_sass.py", "test_executor.py", "test_planted.py")
NAMES = ("first run", "wheels", "tensorrt", "end to end", "kernels", "plugin host", "bench", "sanitizer", "pycuda")


def stages(place: Workplace) -> list[Stage]:
    """All of `NAMES` that there is something to do for.

    The order is that of what is known per second: whether anything runs, whether TensorRT takes the GPU, whether whole
    networks are right; then every kernel, every op; then the figures. Last is what a machine can do without. A dry run
    leaves out what asks the GPU itself.
    """
    tree, gpu = place.tree, place.tree / "benchmarks" / "gpu"
    python: list[str | Path] = [sys.executable]
    wheels = sorted((place.root / "wheels").glob("*.whl"))
    packages = place.root / "pycuda"
    install, pytest = [*python, *INSTALL], [*python, *PYTEST]
    kernels, host = tree / "tests" / "plugins" / "cuda", tree / "tests" / "plugins" / "tensorrt"
    ignored = [word for name in EXECUTOR_TESTS for word in ("--ignore", kernels / name)]
    plugin: list[str | Path] = ["--plugin", place.plugin]
    memory = place.plugin if place.dry else place.kernels
    dry = ["--dry-run"] if place.dry else []
    bench: list[str | Path] = ["--library", place.kernels, "--programs", tree / "build" / "gpu" / "programs"]
    bench += [*plugin, "--models", place.models, "--output", place.results / "bench", "--commit", place.commit]
    bench += ["--dry-run", "--no-torch"] if place.dry else ["--quick"] if place.quick else []
    networks: list[str | Path] = ["--kernels", memory, *plugin, "--models", place.models]
    probe: list[str | Path] = [*plugin, "--model", place.models / PROBED, "--probe"]
    cuda = {"BNN_CUDA_LIBRARY": str(place.kernels)}
    found = {
        "first run": ([*python, gpu / "first_run.py", "--library", place.kernels, *plugin, *dry], 60),
        "wheels": ([*install, place.root / "site", *wheels], 60),
        "tensorrt": ([*python, gpu / "measure_networks.py", *probe], 90),
        "end to end": ([*python, gpu / "end_to_end.py", *networks, *dry], 150),
        "kernels": ([*pytest, *([kernels / "test_pack.py"] if place.dry else [kernels, *ignored])], 150),
        "plugin host": ([*pytest, host / "test_fields.py" if place.dry else host], 150),
        "bench": ([*python, gpu / "bench_gpu.py", *bench], 540),
        "sanitizer": ([*python, tree / "plugins" / "cuda" / "sanitize.py", place.kernels], 330),
        "pycuda": ([*python, gpu / "try_pycuda.py", "--packages", packages], 180),
    }
    absent = {"tensorrt", "sanitizer"} if place.dry else set()
    absent |= {name for name, there in (("wheels", wheels), ("pycuda", packages.is_dir())) if place.dry or not there}
    return [
        Stage(
            name,
            command,
            seconds,
            cuda if name == "kernels" else {},
            place.results / "bench" if name == "bench" else None,
            minutes=name == "bench",
        )
        for name, (command, seconds) in found.items()
        if name not in absent
    ]


def run_stage(stage: Stage, place: Workplace, log: Path, seconds: float = float("inf")) -> dict[str, Any]:
    """Runs a stage; what it prints goes to the end of the log.

    Args:
        stage: See there.
        place: Where.
        log: A file.
        seconds: How much time there is; a stage takes what it may of it.

    Returns:
        `status`, which is `passed`, `failed`, `timed out` or `not available`; `seconds`, `last_line`; `rows`, the lines
        that are JSON objects; `files`, the content of the JSON files that it wrote.
    """
    begin = time.monotonic()
    with log.open("ab") as out:
        seconds = min(seconds, stage.seconds)
        words = stage.words(seconds)
        out.write(f"==== {stage.name}: {' '.join(words)}\n".encode())
        out.flush()
        said = out.tell()
        status = _run(words, {**place.environment(), **stage.variables}, place, seconds, out)
    with log.open("rb") as content:
        content.seek(said)
        lines = [line for line in content.read().decode(errors="replace").splitlines() if line.strip()]
    files = sorted(stage.result.glob("*.json")) if stage.result is not None else []
    return {
        "status": status,
        "seconds": round(time.monotonic() - begin, 1),
        "last_line": lines[-1] if lines else "",
        "rows": [row for row in map(_row, lines) if row is not None],
        "files": {path.name: json.loads(path.read_text("utf-8")) for path in files},
    }


def _run(words: list[str], environment: dict[str, str], place: Workplace, seconds: float, out: Any) -> str:
    place.results.mkdir(parents=True, exist_ok=True)
    try:
        process = subprocess.Popen(
            words,
            cwd=place.tree,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        out.write(f"{error}\n".encode())
        return "failed"
    try:
        return {0: "passed", NOT_AVAILABLE: "not available"}.get(process.wait(seconds), "failed")
    except subprocess.TimeoutExpired:
        for stop in (signal.SIGTERM, signal.SIGKILL):  # one that has started others ends them when it is asked
            # One that hangs in the driver cannot be ended: the rest goes on. The group outlives its first process.
            with suppress(subprocess.TimeoutExpired, ProcessLookupError):
                os.killpg(process.pid, stop)
                process.wait(GRACE_SECONDS)
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
