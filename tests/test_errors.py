"""The errors that users see."""

from __future__ import annotations

import pytest

from bnn_deploy.errors import BnnDeployError, CheckFailed, InputRefused, NotYetAvailable


def test_a_refusal_says_where_what_was_found_what_is_wanted_and_how_to_fix_it() -> None:
    error = InputRefused("conv3", "12 exact zeros", "a 1-bit weight", "pass --sign-zero one")
    assert str(error) == "conv3: 12 exact zeros; wanted: a 1-bit weight; fix: pass --sign-zero one"
    assert (error.where, error.found, error.wanted, error.fix) == (
        "conv3",
        "12 exact zeros",
        "a 1-bit weight",
        "pass --sign-zero one",
    )


@pytest.mark.parametrize(
    ("wanted", "fix", "text"),
    [
        ("", "", "x: found"),
        ("w", "", "x: found; wanted: w"),
        ("", "f", "x: found; fix: f"),
    ],
)
def test_a_part_that_is_not_given_is_not_printed(wanted: str, fix: str, text: str) -> None:
    assert str(InputRefused("x", "found", wanted, fix)) == text


def test_the_exit_status_tells_a_refused_input_from_a_failed_check() -> None:
    assert InputRefused("x", "y").exit_status == 2
    assert NotYetAvailable("x").exit_status == 2
    assert CheckFailed("x").exit_status == 1


@pytest.mark.parametrize("error", [InputRefused("x", "y"), NotYetAvailable("x"), CheckFailed("x")])
def test_one_except_clause_catches_them_all(error: Exception) -> None:
    assert isinstance(error, BnnDeployError)


def test_what_is_not_yet_there_is_named_with_what_to_use_instead() -> None:
    error = NotYetAvailable("bnn-deploy engine", "bnn-deploy run --runner onnxruntime")
    assert (
        str(error) == "bnn-deploy engine: not in this version of bnn_deploy; fix: bnn-deploy run --runner onnxruntime"
    )
