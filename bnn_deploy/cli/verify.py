"""`bnn-deploy verify`: replays a golden bundle on any runner, without PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bnn_deploy.cli import output
from bnn_deploy.cli.files import model_file
from bnn_deploy.cli.options import CheckedRunners
from bnn_deploy.runners.catalogue import exported_runners, factories

if TYPE_CHECKING:
    from bnn_deploy.parity.golden.reader import GoldenBundle
    from bnn_deploy.parity.golden.results import CaseVerification

SHOWN_FAILURES = 5
COLUMNS = ("runner", "inputs", "samples", "accumulators differ", "values differ", "ties", "outputs within", "verdict")


def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What `bnn-deploy parity --golden DIR` wrote.")],
    runner: CheckedRunners = None,
    model: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Another file of the same network, in place of the bundle's.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> int:
    """Replay a golden bundle on this machine and say which layer differs first, by how much, and where."""
    from bnn_deploy.inspection import load_model
    from bnn_deploy.parity.golden.reader import read_golden
    from bnn_deploy.parity.golden.results import report_json
    from bnn_deploy.parity.golden.verify import verify_golden

    chosen = factories(dict.fromkeys(runner or exported_runners()))
    other = load_model(model_file(model)) if model is not None else None
    bundle = read_golden(folder)
    results = verify_golden(bundle, chosen, model=other)
    report = {"bundle": str(folder), "description": bundle.description, "versions": bundle.versions}
    report |= report_json(results)
    if json:
        output.print_json(report)
    else:
        _show(folder, bundle, [result for cases in results.values() for result in cases])
    return 0 if report["passed"] else 1


def _show(folder: Path, bundle: GoldenBundle, results: Sequence[CaseVerification]) -> None:
    written = ", ".join(f"{name} {version}" for name, version in bundle.versions.items())
    typer.echo(f"{folder}: {bundle.description or 'a golden bundle'}{f' (written with {written})' if written else ''}")
    output.print_table(COLUMNS, [_row(result) for result in results], right=COLUMNS[2:7])
    for result in results:
        for failure in result.failures[:SHOWN_FAILURES]:
            typer.echo(f"{result.runner}, {result.case}: {failure}")
        more = len(result.failures) - SHOWN_FAILURES
        if more > 0:
            typer.echo(f"{result.runner}, {result.case}: and {more} more; --json has all")


def _row(result: CaseVerification) -> dict[str, str]:
    cells = (
        result.runner,
        result.case,
        f"{result.samples}",
        f"{result.accumulator_mismatches:,} of {result.accumulators:,}",
        f"{result.level_mismatches:,} of {result.levels:,}",
        f"{result.ties:,}",
        f"{result.max_abs_error:.2g}",
        "passed" if result.passed else "FAILED",
    )
    return dict(zip(COLUMNS, cells, strict=True))
