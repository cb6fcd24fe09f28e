"""`bnn-deploy doctor`: what is installed, what is missing, what that costs and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from bnn_deploy import __version__
from bnn_deploy.cli import output
from bnn_deploy.doctor import Finding, State, examine, is_ready

READY = "Models can be exported and run on the CPU here."
NOT_READY = "Models cannot be exported and run on the CPU here: do first what is marked `needed`."


def doctor(
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Tell what is installed, what is missing and what to do.

    The exit status is 0 if models can be exported and run on the CPU, else 1.
    """
    findings = examine()
    ready = is_ready(findings)
    if json:
        document = {"version": __version__, "ready": ready, "findings": [asdict(finding) for finding in findings]}
        output.print_json(document)
    else:
        for line in lines(findings):
            typer.echo(line)
        typer.echo(READY if ready else NOT_READY)
    return 0 if ready else 1


def lines(findings: Sequence[Finding]) -> Iterator[str]:
    """One line a finding; below each that is not as it should be, what that costs and what to do."""
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        state = "needed" if finding.required and finding.state is not State.OK else str(finding.state)
        yield f"{state:<8} {finding.name:<{width}}  {finding.found}".rstrip()
        for label, text in (("costs", finding.cost), ("to do", finding.fix)):
            if finding.state is not State.OK and text:
                yield f"{'':<8} {'':<{width}}  {label}: {text}"
