from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnn_deploy.bench import Footprint, measure_footprint, run_worker
from bnn_deploy.bench.footprint import RUNS, resident_bytes
from bnn_deploy.errors import BnnDeployError, InputRefused
from bnn_deploy.runners.base import Arrays, RunnerBase


def write_status(path: Path, resident: int, most: int) -> None:
    path.write_text(f"Name:\tpython\nVmPeak:\t 9999 kB\nVmHWM:\t {most} kB\nVmRSS:\t {resident} kB\n", "utf-8")


class Fake(RunnerBase):
    """Grows with every run."""

    name = "fake"

    def __init__(self, status: Path) -> None:
        self.status, self.runs, self.closed = status, 0, False

    def infer(self, feeds: Mapping[str, Any]) -> Arrays:
        self.runs += 1
        write_status(self.status, 300, 300 + self.runs)
        return dict(feeds)

    def __exit__(self, *_: object) -> None:
        self.closed = True


def test_memory_is_read_before_the_file_and_after_the_runs(tmp_path: Path) -> None:
    status = tmp_path / "status"
    write_status(status, 100, 150)
    times = iter([10.0, 10.25])
    made: list[Fake] = []

    def make() -> Fake:
        write_status(status, 300, 400)
        made.append(Fake(status))
        return made[0]

    found = measure_footprint(make, {"x": np.zeros(1)}, clock=lambda: next(times), status=status)
    assert found == Footprint(250.0, (300 + RUNS) * 1024, 100 * 1024)
    assert made[0].runs == RUNS and made[0].closed


def test_a_system_that_does_not_say(tmp_path: Path) -> None:
    assert resident_bytes("VmHWM", tmp_path / "none") is None
    (tmp_path / "status").write_text("Name:\tpython\n", "utf-8")
    assert resident_bytes("VmHWM", tmp_path / "status") is None


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes a module that prints or fails, and puts it where a child finds it."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def write(code: str) -> str:
        (tmp_path / "planted_worker.py").write_text(f"import sys\n{code}\n", "utf-8")
        return "planted_worker"

    return write


def test_the_last_line_counts(worker: Any, tmp_path: Path) -> None:
    line = Footprint(1.5, 7, None).to_line()
    name = worker(f"print('a package says hello'); assert sys.argv[1:] == ['{tmp_path}']; print({line!r})")
    assert run_worker(name, tmp_path, "fake") == Footprint(1.5, 7, None)


def test_a_refusal_keeps_its_words(worker: Any, tmp_path: Path) -> None:
    name = worker("print('noise', file=sys.stderr); print('openvino: no such file', file=sys.stderr); sys.exit(2)")
    with pytest.raises(InputRefused, match=r"runner fake: openvino: no such file$"):
        run_worker(name, tmp_path, "fake")


def test_a_crash_is_told(worker: Any, tmp_path: Path) -> None:
    name = worker("import os; print('half a line', flush=True); os.abort()")
    with pytest.raises(BnnDeployError, match="runner fake: the process that loads it ended with status -6"):
        run_worker(name, tmp_path, "fake")
