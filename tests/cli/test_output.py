"""How results are printed."""

from __future__ import annotations

import json

import pytest

from bnn_deploy.cli.output import print_json, print_table, table_lines

ROWS = [{"name": "nin", "MACs": "1,000"}, {"name": "a longer name", "MACs": "7"}, {"name": "", "MACs": ""}]


def test_table_aligns_text_left_and_numbers_right() -> None:
    assert list(table_lines(("name", "MACs"), ROWS, right=("MACs",))) == [
        "name            MACs",
        "-------------  -----",
        "nin            1,000",
        "a longer name      7",
        "",
    ]


def test_table_without_rows_is_its_headings() -> None:
    assert list(table_lines(("name", "MACs"), [])) == ["name  MACs", "----  ----"]


def test_long_line_is_not_folded(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("name", "MACs"), [{"name": "x " * 500, "MACs": "1"}])
    assert capsys.readouterr().out.count("\n") == 3


def test_json_is_one_document_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"name": "naïve", "shape": [1, 2], "reason": None}
    print_json(value)
    out, err = capsys.readouterr()
    assert json.loads(out) == value
    assert "naïve" in out
    assert err == ""


def test_json_has_words_for_numbers_that_are_not_finite(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"outputs": {"y": [[1.5, float("nan")], (float("inf"), float("-inf"))]}})

    def no_constant(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    found = json.loads(capsys.readouterr().out, parse_constant=no_constant)
    assert found == {"outputs": {"y": [[1.5, "NaN"], ["Infinity", "-Infinity"]]}}
