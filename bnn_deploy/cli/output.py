"""Where a command prints: results to stdout, everything else to stderr."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence

import typer


def print_json(value: object) -> None:
    """One JSON document on stdout, and nothing else there. JSON has no word for a number that is not finite: it is the
    string "NaN", "Infinity" or "-Infinity"."""
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(_with_words(value), indent=2, ensure_ascii=False, allow_nan=False)
    typer.echo(text)


def _with_words(value: object) -> object:
    """The value with strings in place of numbers that are not finite."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {key: _with_words(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_with_words(one) for one in value]
    return value


def print_table(columns: Sequence[str], rows: Sequence[Mapping[str, str]], *, right: Sequence[str] = ()) -> None:
    """A table on stdout; see `table_lines`."""
    for line in table_lines(columns, rows, right=right):
        typer.echo(line)


def table_lines(
    columns: Sequence[str], rows: Sequence[Mapping[str, str]], *, right: Sequence[str] = ()
) -> Iterator[str]:
    """A table, a line a row, as wide as it needs to be: what goes into a file or a pipe is never folded.

    Args:
        columns: The headings, in order; also the keys of each row.
        rows: A mapping a row, from heading to text.
        right: The headings of the columns that hold numbers and so align right.
    """
    headings = {column: column for column in columns}
    widths = {column: max(len(row[column]) for row in (headings, *rows)) for column in columns}
    rule = {column: "-" * widths[column] for column in columns}
    for row in (headings, rule, *rows):
        cells = (
            row[column].rjust(widths[column]) if column in right else row[column].ljust(widths[column])
            for column in columns
        )
        yield "  ".join(cells).rstrip()
