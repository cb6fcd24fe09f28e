"""`bnn-deploy bench`: latency, throughput, load time and memory of runners on an exported file."""

from __future__ import annotations

import json as json_text
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bnn_deploy.cli import output
from bnn_deploy.cli.files import model_file
from bnn_deploy.cli.parsing import output_file
from bnn_deploy.runners.catalogue import Use, names

if TYPE_CHECKING:
    from bnn_deploy.bench import BenchmarkRow

COLUMNS = (
    "runner", "batch", "threads", "p10 ms", "p50 ms", "p90 ms", "ratio", "images/s", "load ms", "peak MiB",
    "network MiB",
)  # fmt: skip
LOUD_DIFFERENCE = 1e-2  # of the outputs; below lie signs that rounding turned
MIB = 1024 * 1024


def bench(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="An ONNX file, a folder that export wrote, or an engine.")
    ],
    runner: Annotated[
        list[str] | None,
        typer.Option(
            help="What runs it; may be repeated, ratios are to the first. "
            "Default: float, int8, ours; for an engine, tensorrt. "
            f"One of {', '.join(names(Use.BENCH))}."
        ),
    ] = None,
    batch: Annotated[list[int] | None, typer.Option(help="Images in one inference; may be repeated.")] = None,
    threads: Annotated[list[int] | None, typer.Option(help="Threads within an operator; may be repeated.")] = None,
    rounds: Annotated[int, typer.Option(help="The most rounds; in each every runner has a turn.")] = 50,
    seconds: Annotated[float, typer.Option(help="The longest for one batch and number of threads.")] = 10.0,
    input_: Annotated[
        list[str] | None,
        typer.Option("--input", "-i", metavar="FILE", help="An .npy file or an image to run and calibrate with."),
    ] = None,
    float_: Annotated[
        Path | None, typer.Option("--float", metavar="FILE", help="The float network; else it is made of FILE.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="What the runner pytorch loads; else what the report names.")
    ] = None,
    checkpoint: Annotated[Path | None, typer.Option(metavar="FILE", help="Weights for that model.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write the JSON to a file.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the JSON.")] = False,
) -> int:
    """Measure runners on an exported file, taking turns: latency, throughput, load time and memory."""
    from bnn_deploy.benchmarking import benchmark
    from bnn_deploy.files import write_atomically

    path = model_file(file, engine=True)
    if out is not None:
        output_file("--out", out, f"--out {out / 'bench.json'}")
    rows = benchmark(
        path,
        runner or None,
        batch or 1,
        threads or 1,
        rounds=rounds,
        seconds=seconds,
        inputs=_inputs(path, input_ or []),
        float_path=model_file(float_) if float_ is not None else None,
        model=model,
        checkpoint=checkpoint,
        progress=lambda stage: typer.echo(stage, err=True),
    )
    content = document(rows)
    if out is not None:
        write_atomically(out, json_text.dumps(content, indent=2).encode() + b"\n")
    if json:
        output.print_json(content)
        return 0
    print_rows(rows)
    return 0


def document(rows: list[BenchmarkRow]) -> dict[str, Any]:
    """The rows, with what they were measured on and with."""
    from bnn_deploy.bench import describe_machine
    from bnn_deploy.benchmarking import software

    return {"machine": describe_machine(), "software": software(), "rows": [asdict(row) for row in rows]}


def print_rows(rows: list[BenchmarkRow]) -> None:
    """The table, what its columns mean, and a word on runners that do not compute the same."""
    output.print_table(COLUMNS, [_cells(row) for row in rows], right=COLUMNS[1:])
    typer.echo(
        "\nratio: how many times as fast as the first runner, the median over the rounds\n"
        "load, peak, network: once, in a process of its own; peak is all of that process's memory, network what the "
        "file and two inferences added to it"
    )
    for row in rows:
        if row.difference is None or row.difference > LOUD_DIFFERENCE:
            size = "not comparable with" if row.difference is None else f"up to {row.difference:.1%} from"
            typer.echo(
                f"{row.runner}, batch {row.batch}: outputs {size} those of {rows[0].runner}, relative to the largest",
                err=True,
            )


def _inputs(path: Path, given: list[str]) -> dict[str, Any] | None:
    if not given:
        return None
    from bnn_deploy.deployed import load_deployed
    from bnn_deploy.feeds import preprocessing_of, read_feeds

    proto = load_deployed(path)
    return read_feeds(proto, given, preprocessing_of(proto))


def _cells(row: BenchmarkRow) -> dict[str, str]:
    return {
        "runner": row.runner,
        "batch": str(row.batch),
        "threads": str(row.threads),
        "p10 ms": milliseconds(row.p10_ms),
        "p50 ms": milliseconds(row.p50_ms),
        "p90 ms": milliseconds(row.p90_ms),
        "ratio": f"{row.ratio:.2f}",
        "images/s": f"{row.images_per_second:,.0f}" if row.images_per_second >= 100 else f"{row.images_per_second:.1f}",
        "load ms": f"{row.load_ms:.0f}",
        "peak MiB": f"{row.peak_rss_bytes / MIB:.0f}" if row.peak_rss_bytes is not None else "",
        "network MiB": f"{row.network_rss_bytes / MIB:.0f}" if row.network_rss_bytes is not None else "",
    }


def milliseconds(value: float) -> str:
    """Three digits that count, without an exponent."""
    return (
        f"{value:.3f}"
        if value < 1
        else f"{value:.2f}"
        if value < 10
        else f"{value:.1f}"
        if value < 100
        else f"{value:.0f}"
    )
