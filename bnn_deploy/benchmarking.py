"""The benchmark of a file, from names to rows."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnn_deploy.bench import BenchmarkRow, Footprint, Schedule, interleave, latency_row, run_worker
from bnn_deploy.contenders import Files, Network
from bnn_deploy.errors import InputRefused
from bnn_deploy.files import is_engine
from bnn_deploy.footprint_worker import write_request
from bnn_deploy.native import chosen_kernels
from bnn_deploy.runners.base import Arrays, Runner
from bnn_deploy.runners.catalogue import (
    RUNNERS,
    Source,
    Task,
    Use,
    benchmarked_runners,
    check_loads,
    entry,
    import_software,
    make_runner,
)

WORKER = "bnn_deploy.footprint_worker"


def benchmark(
    path: str | Path,
    runners: Sequence[str] | None = None,
    batch: int | Sequence[int] = 1,
    threads: int | Sequence[int] = 1,
    *,
    rounds: int = Schedule.rounds,
    seconds: float = Schedule.seconds,
    inputs: Mapping[str, NDArray[Any]] | None = None,
    float_path: str | Path | None = None,
    model: str | None = None,
    checkpoint: str | Path | None = None,
    progress: Callable[[str], None] = lambda _stage: None,
) -> list[BenchmarkRow]:
    """Measures latency, load time and memory of runners on one file, for each batch and number of threads.

    The runners take turns (see `bench.interleave`), and a ratio is the median of the ratios within a round. ONNX
    Runtime's threads do not spin while they wait.

    Args:
        path: A deployed ONNX file; an engine of one for `tensorrt` alone.
        runners: Out of `runners.catalogue.names(Use.BENCH)`, the one to compare with first; None for
            `benchmarked_runners()`, for an engine `tensorrt`.
        batch: Images in one inference; several for a row each.
        threads: Threads within an operator; likewise.
        rounds: The most rounds for a batch and number of threads.
        seconds: The longest that they go on, but for the first few rounds.
        inputs: Input name -> samples [N, ...], to run and to calibrate 8 bits with; None for random ones.
        float_path: The float twin as a file; None to make one of the deployed file, in float32 whatever its precision.
        model: What `pytorch` runs, as `load_model` takes it; None for the model that the report beside the file names.
        checkpoint: For that model.
        progress: Told what is being done.

    Returns:
        A row for each threads, batch and runner, in this order.

    Raises:
        InputRefused: A runner is not known, its software is missing, or it does not take the file.
    """
    default = ["tensorrt"] if is_engine(path) else benchmarked_runners()
    chosen = list(runners) if runners is not None else default
    batches, thread_counts = _several("batch", batch), _several("threads", threads)
    _check(chosen, Path(path), rounds, seconds)
    network = Network(Path(path), inputs)
    rows = []
    with tempfile.TemporaryDirectory(prefix="bnn-bench-") as folder:
        files = Files(network, Path(folder), Path(float_path) if float_path is not None else None, model, progress)
        for thread_count in thread_counts:
            for size in batches:
                tasks = {name: _task(name, files, size, thread_count, checkpoint) for name in chosen}
                rows += _measure(files, tasks, size, thread_count, Schedule(rounds, seconds))
    return rows


def software() -> dict[str, str]:
    """The versions of what runners run on, as far as it is installed, and which set of kernels our library takes."""
    found = {}
    for name in ("bnn-deploy", *dict.fromkeys(runner.package for runner in RUNNERS.values()), "tensorrt-rtx-cu13"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    kernels = chosen_kernels()
    return found if kernels is None else {**found, "native kernels": kernels}


def _several(what: str, value: int | Sequence[int]) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    if not values or min(values) < 1:
        raise InputRefused(what, f"{values}", "numbers of 1 or more")
    return list(dict.fromkeys(values))


def _check(runners: Sequence[str], path: Path, rounds: int, seconds: float) -> None:
    if not runners or len(set(runners)) != len(runners):
        raise InputRefused("runners", f"{list(runners)}", "one name or more, each once")
    if rounds < 1 or not seconds >= 0:
        raise InputRefused("rounds, seconds", f"{rounds}, {seconds}", "1 round or more, 0 seconds or more")
    for name in runners:  # all of them, before anything takes long
        entry(name, Use.BENCH)
        check_loads(name, path)
    for name in runners:
        import_software(name)


def _task(name: str, files: Files, batch: int, threads: int, checkpoint: str | Path | None) -> Task:
    source = entry(name).source
    return Task(
        file=str(files.path(source) or ""),
        threads=threads,
        shapes=files.network.shapes(batch),
        outputs=files.network.outputs,
        model=files.module() if source is Source.MODULE else "",
        checkpoint=str(checkpoint) if checkpoint is not None and source is Source.MODULE else "",
    )


def _measure(
    files: Files, tasks: Mapping[str, Task], batch: int, threads: int, schedule: Schedule
) -> list[BenchmarkRow]:
    """The rows of one batch and number of threads."""
    inputs = files.network.feeds(batch)
    feeds = {name: files.feeds(entry(name).source, inputs) for name in tasks}
    where = f"batch {batch}, threads {threads}"
    footprints: dict[str, Footprint] = {}
    for name, task in tasks.items():
        files.progress(f"{where}: loading {name} in a process of its own")
        request = files.folder / "request.json"
        write_request(request, name, task, feeds[name])
        footprints[name] = run_worker(WORKER, request, name)
    with ExitStack() as stack:
        made: dict[str, Runner] = {name: stack.enter_context(make_runner(name, task)) for name, task in tasks.items()}
        outputs = {name: runner.infer(feeds[name]) for name, runner in made.items()}
        files.progress(f"{where}: {', '.join(made)} in turns")
        times = interleave({name: partial(runner.infer, feeds[name]) for name, runner in made.items()}, schedule)
    first = next(iter(outputs.values()))
    return [
        latency_row(
            times,
            name,
            footprints[name],
            model=str(files.network.path),
            batch=batch,
            threads=threads,
            file_bytes=Path(task.file).stat().st_size if task.file else None,
            difference=difference(first, outputs[name]),
        )
        for name, task in tasks.items()
    ]


def difference(expected: Arrays, found: Arrays) -> float | None:
    """The largest difference of any output, relative to the largest value there; None where it is not a number."""
    worst = 0.0
    for name, array in expected.items():
        if name not in found or found[name].shape != array.shape:
            return None
        apart = np.abs(found[name].astype(np.float64) - array).max(initial=0.0)
        if not np.isfinite(apart):
            return None
        worst = max(worst, float(apart / (np.abs(array).max(initial=0.0) or 1.0)))
    return worst
