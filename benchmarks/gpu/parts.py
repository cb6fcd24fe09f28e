"""The parts of the measurement, each a process of its own.

One that fails, hangs or breaks the GPU's context takes nothing else with it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
from floors import NETWORK

from bnn_deploy import opset

HERE = Path(__file__).resolve().parent
PROGRAMS = ("copy_bandwidth", "mma_rate", "launch_gap")
HOPPER = 90  # compute capability 9.0, the only one with wgmma
DRY_L2_BYTES = 20_000
MOST_SECONDS = 150.0  # of one part
PROBE_SECONDS = 60.0
GRACE_SECONDS = 10.0  # for a process that is ended
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Part:
    """A command whose lines on stdout are JSON. seconds: The longest that it may take."""

    name: str
    command: Sequence[str | Path]
    seconds: float = MOST_SECONDS


@dataclass
class Outcome:
    """What a part left: the rows until it ended, and why it ended early."""

    rows: Rows = field(default_factory=list)
    failure: str = ""


def run_part(part: Part, seconds: float) -> Outcome:
    """Runs it, for so long at the most."""
    try:
        process = subprocess.Popen(
            [str(word) for word in part.command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    except OSError as error:
        return Outcome(failure=str(error))
    try:
        out, errors = process.communicate(timeout=seconds)
        failure = "" if process.returncode == 0 else _last_line(errors) or f"ended with status {process.returncode}"
    except subprocess.TimeoutExpired:
        out, failure = _ended(process), f"not done after {seconds:.0f} s"
    except SystemExit:  # this process is asked to end
        _ended(process)
        raise
    rows = [row for row in map(_parsed, out.splitlines()) if row is not None]
    return Outcome(rows, failure or ("" if rows else "printed nothing"))


def _ended(process: subprocess.Popen[str]) -> str:
    """Ends it and all that it started; what it had printed. One that hangs in the driver is left behind."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    try:
        return process.communicate(timeout=GRACE_SECONDS)[0]
    except subprocess.TimeoutExpired as error:
        return (error.output or b"").decode(errors="replace")


def _parsed(line: str) -> dict[str, Any] | None:
    """A row; None where the line is not one, or is only half of one."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]


def programs(folder: Path, compute_capability: int) -> list[Part]:
    """The measurements that decide the design: CUDA programs."""
    names = (*PROGRAMS, "wgmma_rate") if compute_capability == HOPPER else PROGRAMS
    return [Part(name, [folder / name]) for name in names]


def layer_parts(library: Path, l2_bytes: int, *, quick: bool, dry: bool, more: Sequence[str]) -> list[Part]:
    """Packing, and each layer.

    quick: A few layers and batch sizes, fewer rounds, and all in one process: loading PyTorch takes seconds.
    more: Handed on.
    """
    batches = (1, 2) if dry else (1, 64) if quick else (1, 8, 64, 256)
    groups = [[0, 1]] if dry else [[0, 2, 4, 6]] if quick else [[i] for i in range(len(NETWORK))]
    l2_bytes = DRY_L2_BYTES if dry else l2_bytes
    worker: list[str | Path] = [
        sys.executable,
        HERE / "measure_layers.py",
        "--library",
        library,
        "--l2-bytes",
        str(l2_bytes),
        *more,
    ]
    worker += [word for batch in batches for word in ("--batch", str(batch))]
    worker += ["--rounds", "3", "--recording-ms", "0.5"] if quick or dry else []
    worker += ["--dry-run"] if dry else []
    parts = [Part("pack", [*worker, "--pack"])]
    for group in groups:
        name = "layers " + " ".join(map(str, group))
        parts.append(Part(name, [*worker, *(word for i in group for word in ("--layer", str(i)))]))
    return parts


@dataclass(frozen=True)
class NetworkSource:
    """What whole networks are measured with.

    Attributes:
        library: What has the memory of the plugins; in a dry run the plugin itself.
        plugin: The TensorRT plugin.
        models: A folder of folders, each with the golden bundle of a network.
    """

    library: Path
    plugin: Path
    models: Path

    def networks(self, *, dry: bool) -> list[Path]:
        """The folders of float32 files, largest first; in a dry run the smallest alone."""
        found = {}
        for golden in self.models.glob("*/golden"):
            model = onnx.load(golden / "model.onnx")
            if opset.PRECISION not in {entry.key for entry in model.metadata_props}:  # brought to float16 when measured
                found[golden.parent] = (golden / "model.onnx").stat().st_size
        folders = sorted(found, key=lambda folder: -found[folder])
        return folders[-1:] if dry else folders

    def probe(self) -> list[Part]:
        """Asks whether TensorRT runs the smallest network: it may end the process, or hang."""
        words = [sys.executable, HERE / "measure_networks.py", "--plugin", self.plugin, "--probe", "--model"]
        return [Part("tensorrt", [*words, folder], PROBE_SECONDS) for folder in self.networks(dry=True)]


def network_parts(source: NetworkSource, *, quick: bool, dry: bool, tensorrt: bool, more: Sequence[str]) -> list[Part]:
    """Each network.

    quick: Batch 1 and 64 of the largest.
    tensorrt: Whether it runs here.
    more: Handed on.
    """
    batches = (1, 2) if dry else (1, 64) if quick else (1, 64, 8, 256)
    worker: list[str | Path] = [sys.executable, HERE / "measure_networks.py"]
    worker += ["--library", source.library, "--plugin", source.plugin, *more]
    worker += [word for batch in batches for word in ("--batch", str(batch))]
    worker += ["--rounds", "3" if dry else "5" if quick else "9", "--recording-ms", "0.5" if dry else "5"]
    worker += ["--dry-run"] if dry else ["--tensorrt"] if tensorrt else []
    seconds = 2 * MOST_SECONDS if tensorrt else MOST_SECONDS  # it times kernels for every engine
    folders = source.networks(dry=dry)[: 1 if quick else None]
    return [Part(f"networks {folder.name}", [*worker, "--model", folder], seconds) for folder in folders]


class Budget:
    """The time there is for all parts together."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._end = clock, clock() + seconds

    def run(self, part: Part, runner: Callable[[Part, float], Outcome] = run_part) -> Outcome:
        """Runs a part, unless the time is over."""
        left = min(self._end - self._clock(), part.seconds)
        if left <= 1:
            return Outcome(failure="no time was left for it")
        print(f"{part.name} ...", file=sys.stderr, flush=True)
        outcome = runner(part, left)
        if outcome.failure:
            print(f"{part.name}: {outcome.failure}", file=sys.stderr, flush=True)
        return outcome
