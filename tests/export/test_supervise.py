"""The process that exports may end in any way; the one that started it says how, and leaves no half-written file."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bnn_deploy.errors import BnnDeployError, CheckFailed, InputRefused
from bnn_deploy.export.request import ExportRequest
from bnn_deploy.export.supervise import run_export

Run = Callable[..., dict[str, Any]]
Snapshot = dict[str, tuple[bytes, int]]

PRELUDE = """
import json, os, signal, sys
from pathlib import Path

folder = Path(sys.argv[1])
request = json.loads((folder / "request.json").read_text())

def stage(text):
    (folder / "stage.txt").write_text(text)

def outcome(**content):
    (folder / "outcome.json").write_text(json.dumps({"report": None, "error": None, **content}))

def results(**report):
    (folder / "model.onnx").write_bytes(b"new model")
    (folder / "report.json").write_text(json.dumps(report))
    outcome(report=report)
"""
OLD = {"model.onnx": b"old model", "report.json": b"{}", "report.failed.json": b"[]", "notes.txt": b"mine"}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Exports into `tmp_path/out`, with a worker whose code is given."""
    workers = tmp_path / "workers"
    workers.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(workers))

    def run(code: str, out: Path | None = None, **fields: Any) -> dict[str, Any]:
        (workers / "worker_of_the_test.py").write_text(PRELUDE + textwrap.dedent(code))
        request = ExportRequest("mine.py:make", str(out or tmp_path / "out"), **fields)
        return run_export(request, worker="worker_of_the_test")

    return run


def snapshot(folder: Path) -> Snapshot:
    """Every path below, with content and time of change."""
    return {
        str(path.relative_to(folder)): (path.read_bytes() if path.is_file() else b"", path.stat().st_mtime_ns)
        for path in folder.rglob("*")
    }


def fill(out: Path) -> Snapshot:
    out.mkdir(parents=True)
    for name, content in OLD.items():
        (out / name).write_bytes(content)
    return snapshot(out)


DEATHS = {
    "exit 0": ("os._exit(0)", "ended with status 0 and no result", "os._exit, sys.exit"),
    "exit 3": ("sys.exit(3)", "ended with status 3 and no result", "os._exit, sys.exit"),
    "raises": ("raise RuntimeError('unexpected')", "ended with status 1 and no result", "run the model's forward"),
    "killed": ("os.kill(os.getpid(), signal.SIGKILL)", "was ended by SIGKILL", "the memory ran out"),
    "crash": ("os.kill(os.getpid(), signal.SIGSEGV)", "was ended by SIGSEGV", "native extension that crashes"),
    "abort": ("os.abort()", "was ended by SIGABRT", "native extension that crashes"),
}


@pytest.mark.parametrize("there", [False, True], ids=["new folder", "old results"])
@pytest.mark.parametrize("death", DEATHS)
def test_a_process_that_dies(death: str, there: bool, run: Run, tmp_path: Path) -> None:
    code, found, fix = DEATHS[death]
    out = tmp_path / "made" / "for" / "it"
    before = fill(out) if there else {}
    half = "stage('exporting to ONNX'); (folder / 'model.onnx').write_bytes(b'half a mod')"
    with pytest.raises(InputRefused) as refused:
        run(f"{half}\n{code}", out)
    assert refused.value.where == "mine.py:make"
    assert found in refused.value.found and "(while exporting to ONNX)" in refused.value.found
    assert fix in refused.value.fix
    assert "\n" not in str(refused.value)
    if there:
        assert snapshot(out) == before
    else:
        assert not (tmp_path / "made").exists()


def test_a_process_that_dies_at_once_was_starting(run: Run, tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match=r"\(while starting\)"):
        run("os._exit(0)")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("there", [False, True], ids=["new folder", "old results"])
def test_a_refusal_crosses_whole(there: bool, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    before = fill(out) if there else {}
    with pytest.raises(InputRefused) as refused:
        run("outcome(error={'kind': 'refused', 'where': 'conv3', 'found': 'é', 'wanted': 'w', 'fix': 'f'})")
    error = refused.value
    assert (error.where, error.found, error.wanted, error.fix) == ("conv3", "é", "w", "f")
    assert snapshot(out) == before if there else not out.exists()


@pytest.mark.parametrize(("kind", "raised"), [("failed", CheckFailed), ("internal", BnnDeployError)])
def test_other_errors_cross_with_their_text(kind: str, raised: type[Exception], run: Run, tmp_path: Path) -> None:
    with pytest.raises(raised, match="line one\nline two") as caught:
        run(f"outcome(error={{'kind': {kind!r}, 'message': 'line one\\nline two'}})")
    assert type(caught.value) is raised
    assert ("please report it" in str(caught.value)) == (kind == "internal")
    assert caught.value.exit_status == 1
    assert not (tmp_path / "out").exists()


def test_success_replaces_both_files_and_nothing_else(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    fill(out)
    report = run("results(passed=True, failures=[], seed=request['seed'])", seed=7)
    assert report == {"passed": True, "failures": [], "seed": 7}
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        "model.onnx": b"new model",
        "report.json": json.dumps(report).encode(),
        "notes.txt": b"mine",
    }


def test_a_crash_after_the_result_does_not_undo_it(run: Run, tmp_path: Path) -> None:
    """Some native libraries crash when the interpreter ends; by then the work is done."""
    run("results(passed=True, failures=[])\nos.kill(os.getpid(), signal.SIGSEGV)")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["model.onnx", "report.json"]


@pytest.mark.parametrize("there", [False, True], ids=["new folder", "old results"])
def test_a_failed_check_leaves_a_report_and_no_model(there: bool, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    if there:
        fill(out)
    failures = [f"conv{index}: 1 of 9 accumulators differ" for index in range(4)]
    with pytest.raises(CheckFailed) as failed:
        run(f"results(passed=False, failures={failures})")
    left = {"report.failed.json", "notes.txt"} if there else {"report.failed.json"}
    assert {path.name for path in out.iterdir()} == left
    assert json.loads((out / "report.failed.json").read_text()) == {"passed": False, "failures": failures}
    message = str(failed.value)
    assert "the exported file is not the PyTorch model" in message
    assert failures[0] in message and failures[2] in message and failures[3] not in message
    assert str(out / "report.failed.json") in message


def test_what_the_model_prints_goes_to_stderr(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    code = """
    print("printed")
    os.write(1, b"written\\n")
    os.system("echo from a shell")
    print("read:", repr(sys.stdin.read()))
    results(passed=True, failures=[])
    """
    run(code)
    out, err = capfd.readouterr()
    assert out == ""
    assert {"printed", "written", "from a shell", "read: ''"} <= set(err.splitlines())


def test_a_stderr_without_a_file_behind_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a notebook."""
    monkeypatch.setattr(sys, "stderr", None)
    assert run("print('printed')\nresults(passed=True, failures=[])")["passed"]


def test_interrupted_by_the_user(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    before = fill(out)

    def interrupt(*_arguments: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("subprocess.run", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run("")
    assert snapshot(out) == before


def test_the_parent_of_a_new_folder_stays(run: Run, tmp_path: Path) -> None:
    neighbour = tmp_path / "runs" / "neighbour"
    neighbour.mkdir(parents=True)
    with pytest.raises(InputRefused):
        run("os._exit(1)", tmp_path / "runs" / "mine" / "first")
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["neighbour"]
