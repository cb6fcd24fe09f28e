"""The command line as a whole: its commands, its errors, its exit status, and what it does not import."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from bnn_deploy import __version__
from bnn_deploy.cli import main as main_module
from bnn_deploy.cli.app import app
from bnn_deploy.cli.errors import one_line, report
from bnn_deploy.cli.main import main
from bnn_deploy.errors import BnnDeployError, CheckFailed, InputRefused

COMMANDS = ("models", "export", "convert", "engine", "run", "parity", "bench", "inspect", "doctor")
HEAVY = ("torch", "numpy", "onnx", "onnx_ir", "onnxscript", "onnxruntime", "PIL", "safetensors", "tensorrt", "pycuda")

# Runs in a process of its own, where nothing else has imported anything.
LOADED = f"""
import sys
{{statement}}
print([name for name in {HEAVY!r} if name in sys.modules])
"""


def _loaded_by(statement: str) -> str:
    code = LOADED.format(statement=statement)
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return answer.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    "statement",
    [
        "import bnn_deploy",
        "import bnn_deploy.cli.main",
        "from bnn_deploy.cli.main import main; main(['--help'])",
        "from bnn_deploy.cli.main import main; main(['doctor'])",
    ],
)
def test_nothing_heavy_is_imported(statement: str) -> None:
    assert _loaded_by(statement) == "[]"


def test_the_check_above_sees_an_import() -> None:
    assert _loaded_by("import bnn_deploy.bits") == "['numpy']"


def test_help_names_every_command(cli: Callable[..., Any]) -> None:
    outcome = cli("--help")
    assert outcome.status == 0
    assert outcome.err == ""
    listed = [line.split()[1] for line in outcome.out.splitlines() if line.startswith("│") and len(line.split()) > 2]
    assert set(COMMANDS) <= set(listed)


@pytest.mark.parametrize("command", COMMANDS)
def test_command_has_help(command: str, cli: Callable[..., Any]) -> None:
    outcome = cli(command, "--help")
    assert outcome.status == 0
    assert f"bnn-deploy {command}" in outcome.out


def test_version_goes_to_stdout(cli: Callable[..., Any]) -> None:
    assert cli("--version") == (0, f"bnn-deploy {__version__}\n", "")


@pytest.mark.parametrize("arguments", [("exprt",), ("export",), ("doctor", "--no-such-option"), ("--no-such-option",)])
def test_wrong_usage_is_status_2_on_stderr(arguments: tuple[str, ...], cli: Callable[..., Any]) -> None:
    outcome = cli(*arguments)
    assert outcome.status == 2
    assert outcome.out == ""
    assert "Usage: bnn-deploy" in outcome.err
    assert "Traceback" not in outcome.err


def _raise(error: BaseException) -> Callable[..., None]:
    def command(**_options: object) -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (
            InputRefused("conv3", "12 exact zeros", "none", "pass zero_weight=+1"),
            2,
            "error: conv3: 12 exact zeros; wanted: none; fix: pass zero_weight=+1\n",
        ),
        (CheckFailed("parity: 3 accumulators differ"), 1, "error: parity: 3 accumulators differ\n"),
    ],
)
def test_error_is_one_line_and_its_status(
    error: Exception, status: int, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(main_module, "app", _raise(error))
    assert main([]) == status
    assert capsys.readouterr() == ("", line)


def test_long_message_is_neither_wrapped_nor_read_as_markup(capsys: pytest.CaptureFixture[str]) -> None:
    report(InputRefused("/a/very/long/path/" * 20, "[bold]not markup[/bold] :smile:\nsecond line"))
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert line.endswith("[bold]not markup[/bold] :smile: second line\n")


def test_bug_reported_by_another_process_keeps_its_lines(capsys: pytest.CaptureFixture[str]) -> None:
    report(BnnDeployError("internal error:\n  line 1\n  line 2"))
    assert capsys.readouterr().err == "error: internal error:\n  line 1\n  line 2\n"


def test_one_line_joins_lines() -> None:
    assert one_line("a\n  b\t c ") == "a b c"


def test_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnn_deploy.cli.doctor.examine", _raise(ZeroDivisionError("a bug")))
    with pytest.raises(ZeroDivisionError):
        main(["doctor"])
    assert app.pretty_exceptions_enable is False


@pytest.mark.parametrize("inside_a_command", [True, False])
def test_interrupt_is_status_130(inside_a_command: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if inside_a_command:
        monkeypatch.setattr("bnn_deploy.cli.doctor.examine", _raise(KeyboardInterrupt()))
        assert main(["doctor"]) == 130
    else:
        monkeypatch.setattr(main_module, "app", _raise(KeyboardInterrupt()))
        assert main([]) == 130


def test_what_a_command_returns_is_the_status(monkeypatch: pytest.MonkeyPatch, cli: Callable[..., Any]) -> None:
    monkeypatch.setattr("bnn_deploy.cli.doctor.is_ready", lambda _findings: False)
    assert cli("doctor", "--json").status == 1
    monkeypatch.setattr("bnn_deploy.cli.doctor.is_ready", lambda _findings: True)
    assert cli("doctor", "--json").status == 0


def test_module_runs_as_the_command() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "bnn_deploy", "inspect", "out.onnx"], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 2
    assert answer.stdout == ""
    assert answer.stderr.startswith("error: out.onnx: no such file")
