"""Load time and memory of one runner, in a process of its own: what another has loaded is not counted there.

The process that measures starts `python -m WORKER REQUEST`; the worker makes the runner, calls `measure_footprint` and
prints what `Footprint.to_line` says as its last line.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from bnn_deploy.errors import BnnDeployError, InputRefused
from bnn_deploy.runners.base import Runner

RUNS = 2  # inferences before memory is read: some memory is only taken with the first, some with the second
STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Footprint:
    """What one runner takes in a fresh process.

    Attributes:
        load_ms: From the file to a runner that is ready, once; the runner's software is imported before.
        peak_rss_bytes: The most memory that was resident until a few inferences were done, Python and the runner's
            software included (Linux: VmHWM). None where the system does not say.
        base_rss_bytes: What of it was resident before the file was loaded. The difference is the network's.
    """

    load_ms: float
    peak_rss_bytes: int | None
    base_rss_bytes: int | None

    def to_line(self) -> str:
        """As the worker prints it."""
        return json.dumps(asdict(self))


def measure_footprint(
    make: Callable[[], Runner],
    feeds: Mapping[str, NDArray[Any]],
    clock: Callable[[], float] = time.perf_counter,
    status: Path = STATUS,
) -> Footprint:
    """Makes a runner and runs it; for a process that has done nothing else.

    Args:
        make: Loads the file.
        feeds: Input name -> array.
        clock: Seconds.
        status: Where the system describes the process.
    """
    base = resident_bytes("VmRSS", status)
    start = clock()
    runner = make()
    load_ms = 1e3 * (clock() - start)
    with runner:
        for _ in range(RUNS):
            runner.infer(feeds)
        return Footprint(load_ms, resident_bytes("VmHWM", status), base)


def resident_bytes(entry: str, status: Path = STATUS) -> int | None:
    """VmRSS, what is resident, or VmHWM, the most that was; None where the system does not say.

    `getrusage` would not do: the maximum that it has survives exec, so a child starts with its parent's.
    """
    try:
        lines = status.read_text("utf-8").splitlines()
    except OSError:
        return None
    found = next((line.split()[1] for line in lines if line.startswith(f"{entry}:")), None)
    return None if found is None else int(found) * 1024


def run_worker(worker: str, request: Path, runner: str) -> Footprint:
    """Starts `python -m worker request` and reads its last line.

    Raises:
        InputRefused: The worker refuses, in its own words.
        BnnDeployError: It ends in another way.
    """
    command = [sys.executable, "-m", worker, str(request)]
    answer = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    last = (answer.stdout.splitlines() or [""])[-1]
    if answer.returncode == InputRefused.exit_status:
        where, said = f"runner {runner}", (answer.stderr.strip().splitlines() or ["refused"])[-1]
        raise InputRefused(where, said.removeprefix(f"{where}: "))
    if answer.returncode != 0:
        raise BnnDeployError(
            f"runner {runner}: the process that loads it ended with status {answer.returncode}:\n{answer.stderr}"
        )
    return Footprint(**json.loads(last))
