"""The benchmark of the GPU's kernels, as far as it goes without one: floors, turns, failures, tables, a dry run."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
GPU = ROOT / "benchmarks" / "gpu"
HOST_PLUGIN = ROOT / "build" / "plugins" / "tensorrt" / "libbnn_deploy_tensorrt_host.so"
HOST_LIBRARY = ROOT / "build" / "plugins" / "cuda" / "host" / "libbnn_deploy_cuda_host.so"
sys.path += [str(GPU), str(ROOT / "tests" / "plugins" / "cuda")]

import first_run as first_run_module  # noqa: E402
import floors  # noqa: E402
import parts  # noqa: E402
import report  # noqa: E402
import slots  # noqa: E402
import torch_peers  # noqa: E402
import turns  # noqa: E402
from cuda_builds import built  # noqa: E402
from our_layers import OurLayer  # noqa: E402

LAYER = floors.Layer(64, 32, 6)
MEASURED = {
    "copy_bandwidth": {
        "large_kernel_bytes_per_second": 2e12,
        "large_bytes": 9e99,
        "in_l2_kernel_bytes_per_second": 8e12,
    },
    "mma_rate": {"b1_and_macs_per_second": 3e15, "int8_macs_per_second": 8e14},
    "wgmma_rate": {"int8_macs_per_second": 9e14},
}


@pytest.fixture
def library() -> slots.Library:
    """The kernels in the host executor. Where the checks run they must have been built."""
    return slots.Library(built(HOST_LIBRARY, "the host executor's library"))


# ---- floors


@pytest.mark.parametrize(("batch", "microseconds"), [(1, 2.3), (8, 15.7), (64, 123.0), (256, 491.0)])
def test_floor_of_the_network_with_a_float16_residual(batch: int, microseconds: float) -> None:
    assert floors.network_floor_us(batch, floors.H100_DATA_SHEET) == pytest.approx(microseconds, rel=0.015)


def test_floor_of_the_network_with_an_int8_residual() -> None:
    assert floors.network_floor_us(256, floors.H100_DATA_SHEET, floors.INT8_BYTES) == pytest.approx(270, rel=0.01)


def test_work_of_a_layer_by_hand() -> None:
    work = floors.binary_work(floors.Layer(64, 128, 56, stride=2), 2)
    bits, weights = 2 * (56 * 56 * 8 + 28 * 28 * 16), 128 * 9 * 8
    assert work.bytes == bits + weights + 2 * 2 * 28 * 28 * 128 * 2
    assert work.macs == 2 * 28 * 28 * 128 * 64 * 9
    assert work.seconds(work.bytes, 1e99) == 1.0
    assert work.seconds(1e99, work.macs / 3) == pytest.approx(3.0)


def test_every_convolution_of_the_network_is_counted() -> None:
    assert sum(floors.NETWORK.values()) == 16
    assert sum(count * layer.products for layer, count in floors.NETWORK.items()) == 1_676_279_808


# ---- turns


class FakeRecording:
    """Takes a fixed time for each run, and writes down when it is replayed."""

    def __init__(self, name: str, run_ms: float, runs: int, log: list[str], breaks_at: int = 99) -> None:
        self.name, self.ms, self.log, self.breaks_at = name, run_ms * runs, log, breaks_at

    def milliseconds(self) -> float:
        if self.log.count(self.name) == self.breaks_at:
            raise RuntimeError("an illegal\nmemory access")
        self.log.append(self.name)
        return self.ms

    def close(self) -> None:
        self.log.append(f"close {self.name}")


def test_contenders_take_turns_and_one_that_breaks_is_noted() -> None:
    log: list[str] = []

    def fake(name: str, run_ms: float, **breaking: int) -> turns.Contender:
        return turns.Contender(lambda runs: FakeRecording(name, run_ms, runs, log, **breaking), slots=3)

    def refuses(runs: int) -> turns.Recording:
        raise ValueError("no memory")

    contenders = {"a": fake("a", 0.25), "b": fake("b", 0.5, breaks_at=2), "c": turns.Contender(refuses, 1)}
    found, failures = turns.take_turns(contenders, turns.Schedule(rounds=3, recording_ms=2.0))
    assert log == ["a", "close a", "b", "close b", "a", "b", "a", "a", "close b", "close a"]
    assert found == {"a": {"p10_us": 250.0, "p50_us": 250.0, "p90_us": 250.0, "runs": 9}}
    assert failures == {"b": "RuntimeError: an illegal", "c": "ValueError: no memory"}


def test_runs_of_a_recording_are_as_many_for_each_slot() -> None:
    assert turns.runs_for(0.1, 1, 2.0) == 20
    assert turns.runs_for(0.1, 7, 2.0) == 21
    assert turns.runs_for(50.0, 1, 2.0) == turns.FEWEST_RUNS
    assert turns.runs_for(0.0, 300, 2.0) == 2100


class FakeLibrary:
    """Writes down the calls, hands out handles, and says that a replay took 3 ms."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def call(self, function: str, *arguments: Any) -> None:
        self.calls.append(function.removeprefix("bnn_cuda_"))
        if function.endswith("begin_recording"):
            ctypes.cast(arguments[0], ctypes.POINTER(ctypes.c_void_p))[0] = 77 << 32
        if function.endswith("replay"):
            ctypes.cast(arguments[2], ctypes.POINTER(ctypes.c_float))[0] = 3.0


def test_recording_launches_the_slots_in_turn() -> None:
    fake, launched = FakeLibrary(), []
    recording = turns.GraphRecording(fake, lambda slot, stream: launched.append((slot, stream)), 2, 3)
    assert launched == [(0, None), (0, 77 << 32), (1, 77 << 32), (0, 77 << 32)]
    assert recording.milliseconds() == 3.0
    recording.close()
    assert fake.calls == ["begin_recording", "end_recording", "replay", "forget"]


def test_recording_of_a_launch_that_fails_is_ended() -> None:
    def launch(slot: int, stream: int | None) -> None:
        if stream is not None:
            raise ValueError("does not fit")

    fake = FakeLibrary()
    with pytest.raises(ValueError, match="does not fit"):
        turns.GraphRecording(fake, launch, 1, 1)
    assert fake.calls == ["begin_recording", "end_recording"]


def test_host_executor_records_nothing(library: slots.Library) -> None:
    with pytest.raises(Exception, match="the host executor measures no times"):
        turns.GraphRecording(library, lambda slot, stream: None, 1, 1)


# ---- what is timed


def test_slots_fill_the_cache_several_times_over() -> None:
    assert slots.cold_slots(100, 1000) == 30
    assert slots.cold_slots(10**9, 1000) == 1
    assert slots.cold_slots(1, 10**9) == slots.MOST_SLOTS
    assert slots.cold_slots(1, 0) == 1


def test_every_slot_has_the_arrays_and_every_tile_agrees(library: slots.Library) -> None:
    ours = OurLayer(library, LAYER, 2)
    with slots.Slots(library, ours.arrays, 3) as memory:
        assert all(memory.read(name, 2).tobytes() == array.tobytes() for name, array in ours.arrays.items())
        ours.prepare(memory)
        assert ours.compare_kernels(memory) == ({}, {})
        for one in ours.contenders(memory, [0, library.popcount], dry=True).values():
            one.record(3).close()
        first, last = (memory.read("y", slot).tobytes() for slot in (0, 2))
        assert first == last != ours.arrays["y"].tobytes()


def test_wrong_kernels_are_named(library: slots.Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that writes a wrong bit, and one that writes nothing, for which what another has left does not stand in."""
    ours = OurLayer(library, LAYER, 1)
    right_outputs, right_call = ours._outputs, library.call

    def wrong_bit(memory: slots.Slots, kernel: int) -> dict[str, Any]:
        found = right_outputs(memory, kernel)
        found["bits"].flat[0] ^= kernel == 1
        return found

    def idle(function: str, *arguments: Any) -> None:
        if function != "bnn_cuda_conv2d" or arguments[0]._obj.kernel != 3:
            right_call(function, *arguments)

    monkeypatch.setattr(ours, "_outputs", wrong_bit)
    monkeypatch.setattr(library, "call", idle)
    with slots.Slots(library, ours.arrays, 1) as memory:
        ours.prepare(memory)
        refused, wrong = ours.compare_kernels(memory)
    assert refused == {}
    assert wrong == {
        "tile 1": "bits differ from the popcount kernel's; not timed",
        "tile 3": "y and bits differ from the popcount kernel's; not timed",
    }


@pytest.mark.usefixtures("fake_graphs")
def test_peers_run_the_same_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU, with what is of the GPU alone replaced."""
    import torch

    shapes = []

    def fused(x: Any, w: Any, z: Any, alpha: float, bias: Any, *geometry: Any) -> Any:
        stride, pad, dilation, group = geometry
        shapes.append(z.shape)
        return torch.relu(torch.conv2d(x, w, bias, stride, pad, dilation, group) + alpha * z)

    monkeypatch.setattr(torch_peers, "DEVICE", "cpu")
    monkeypatch.setattr(torch, "cudnn_convolution_add_relu", fused)
    layer = floors.Layer(64, 32, 6, stride=2)
    made = {name: make() for name, make in torch_peers.peers(layer, 8, 100_000, cold=True).items()}
    assert tuple(made) == report.PEERS
    assert all(one.slots > 1 for one in made.values())
    for name, one in made.items():
        recording = one.record(one.slots)
        expected = (8 * 9, 32) if name == "int8 matmul" else (8, 32, 3, 3)
        assert [tuple(y.shape) for y in recording._kept] == [expected] * one.slots
        assert recording.milliseconds() == 4.0
        recording.close()
    assert set(shapes) == {torch.Size((8, 32, 3, 3))}


# ---- parts


def python(code: str) -> parts.Part:
    return parts.Part("planted", [sys.executable, "-c", code])


def test_part_that_breaks_leaves_its_rows() -> None:
    code = 'import os; print(\'{"a": 1}\\n{"b": \', flush=True); os.write(2, b"first\\nlast\\n"); os.abort()'
    assert parts.run_part(python(code), 60) == parts.Outcome([{"a": 1}], "last")
    assert parts.run_part(python("import sys; sys.exit(3)"), 60).failure == "ended with status 3"
    assert parts.run_part(python(""), 60).failure == "printed nothing"
    assert parts.run_part(python("print('{\"a\": 1}')"), 60) == parts.Outcome([{"a": 1}], "")
    assert "no-such" in parts.run_part(parts.Part("x", ["/no-such"]), 60).failure


def test_part_that_hangs_is_ended() -> None:
    outcome = parts.run_part(python("import time; print('{\"a\": 1}', flush=True); time.sleep(600)"), 2)
    assert outcome == parts.Outcome([{"a": 1}], "not done after 2 s")


def test_no_part_begins_when_the_time_is_over(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    budget = parts.Budget(200, clock=lambda: now[0])
    given: list[float] = []

    def runner(part: parts.Part, seconds: float) -> parts.Outcome:
        given.append(seconds)
        now[0] += 120
        return parts.Outcome([{}])

    outcomes = [budget.run(python(""), runner) for _ in range(3)]
    assert given == [parts.MOST_SECONDS, 80]
    assert [outcome.failure for outcome in outcomes] == ["", "", "no time was left for it"]


def test_parts_of_a_run() -> None:
    full = parts.layer_parts(Path("x.so"), 50, quick=False, dry=False, more=[])
    quick = parts.layer_parts(Path("x.so"), 50, quick=True, dry=False, more=["--no-torch"])
    assert [part.name for part in full] == ["pack", *(f"layers {i}" for i in range(7))]
    assert [part.name for part in quick] == ["pack", "layers 0 2 4 6"]
    assert "--no-torch" in quick[1].command and "--rounds" not in full[1].command
    assert [part.name for part in parts.programs(Path("p"), 89)] == list(parts.PROGRAMS)
    assert parts.programs(Path("p"), 90)[-1].name == "wgmma_rate"


# ---- what it means


def row(layer: floors.Layer, batch: int, us: float, **more: Any) -> dict[str, Any]:
    work = floors.binary_work(layer, batch)
    times = {"tile 0": us, "tile 1": us / 2, "float16 conv": 3 * us, "int8 matmul": 4 * us}
    return {
        "layer": str(layer),
        "count": floors.NETWORK[layer],
        "batch": batch,
        "bytes": work.bytes,
        "macs": work.macs,
        "int8_bytes": floors.int8_work(layer, batch).bytes,
        "chosen": "tile 0",
        "cold": {name: {"p50_us": value} for name, value in times.items()},
        **more,
    }


def test_ceilings_are_the_fastest_that_was_measured() -> None:
    assert report.ceilings(MEASURED) == floors.Ceilings(2e12, 3e15, 9e14)
    assert report.ceilings({name: MEASURED[name] for name in ("mma_rate", "wgmma_rate")}) is None
    assert report.ceilings({}) is None


def test_a_row_is_judged_by_its_floor_and_its_peers() -> None:
    layer = floors.Layer(64, 64, 56)
    judged = report.judge_layer(row(layer, 64, 100.0), report.ceilings(MEASURED))
    floor_us = floors.binary_work(layer, 64).bytes / 2e12 * 1e6
    assert judged["floor_us"] == pytest.approx(floor_us)
    assert judged["cold_fastest"] == "tile 1"
    assert set(judged["cold_judged"]) == {"tile 0", "tile 1"} and "warm_judged" not in judged
    own = judged["cold_judged"]["tile 0"]
    assert own["of_floor"] == pytest.approx(floor_us / 100)
    assert own["macs_per_second"] == pytest.approx(64 * layer.products / 100e-6)
    assert own["times_as_fast_as"] == pytest.approx({"float16 conv": 3.0, "int8 matmul": 4.0})
    assert "of_floor" not in report.judge_layer(row(layer, 64, 100.0), None)["cold_judged"]["tile 0"]


def content_of(layers: list[dict[str, Any]]) -> dict[str, Any]:
    limits = report.ceilings(MEASURED)
    judged = [report.judge_layer(one, limits) for one in layers]
    pack = report.judge_pack({"layer": "x", "batch": 8, "float32 NCHW": {"p50_us": 2.0, "bytes": 2_000_000}}, limits)
    measurements = MEASURED | {"launch_gap": {"one_block_graph_us": 1.25}}
    return {
        "measurements": measurements,
        "tensorrt": {"refused": "not for this GPU"},
        "pack": [pack],
        "layers": judged,
        "convolution_sums": report.convolution_sums(judged),
        "networks": [],
        "failures": {"mma_rate": "no such file"},
    }


def test_convolutions_are_the_sum_of_their_layers() -> None:
    whole = [row(layer, 64, 10.0) for layer in floors.NETWORK]
    (total,) = content_of([*whole, row(floors.Layer(64, 64, 56), 8, 1.0)])["convolution_sums"]
    assert total["batch"] == 64 and total["us"] == 160.0 and total["float16 conv"] == 480.0
    assert "float16 conv+add+relu" not in total
    assert total["floor_us"] == pytest.approx(floors.network_floor_us(64, report.ceilings(MEASURED)))


def test_tables_show_what_there_is() -> None:
    missing = row(floors.Layer(512, 512, 7), 64, 10.0, chosen="tile 3")
    text = report.tables(content_of([*(row(layer, 64, 10.0) for layer in floors.NETWORK), missing]))
    assert "| mma_rate: b1 and macs | 3000 T/s |" in text and "\nTensorRT: not for this GPU\n" in text
    assert "| launch_gap: one block graph us | 1.25 |" in text
    assert "| x | 8 | 2 us, 1000 GB/s, 50% | - | - | - |" in text
    assert "| 64->64 3x3 @56 | 64 | tile 0 | 10 | - | tile 1: 5 |" in text
    assert "| 512->512 3x3 @7 | 64 | tile 3 | - | - | tile 1: 5 |" in text
    assert text.endswith("failed:\n- mma_rate: no such file")
    empty = {"measurements": {}, "pack": [], "layers": [], "convolution_sums": [], "networks": [], "failures": {}}
    assert report.tables(empty).startswith("| measured | value |")


# ---- the whole


@pytest.fixture
def bench(library: slots.Library, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the script, with CUDA programs that are planted."""
    program = tmp_path / "copy_bandwidth"
    program.write_text("#!/bin/sh\necho '{\"large_memcpy_bytes_per_second\": 1e12}'\n", "utf-8")
    program.chmod(0o755)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        script = [sys.executable, str(GPU / "bench_gpu.py"), "--library", str(library.path)]
        script += ["--plugin", str(HOST_PLUGIN), "--models", str(tmp_path / "models")]
        folders = ["--programs", str(tmp_path), "--output", str(tmp_path / "out"), "--commit", "abc"]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        command = [*script, *folders, *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    return run


def test_without_a_gpu_is_one_line_and_status_2(bench: Callable[..., Any], tmp_path: Path) -> None:
    answer = bench()
    assert answer.returncode == 2 and answer.stdout == ""
    assert answer.stderr.splitlines()[-1].startswith("error: nothing to measure: ")
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore")  # PyTorch's older exporter is quick, and says that it is old
def test_dry_run_goes_through_everything(
    bench: Callable[..., Any], tmp_path: Path, deployed: Callable[..., Any], golden: Callable[..., Path]
) -> None:
    golden(deployed("Residual", exporter="legacy"), folder=tmp_path / "models" / "small" / "golden")
    answer = bench("--dry-run")
    assert answer.returncode == 1, answer.stderr
    (file,) = (tmp_path / "out").iterdir()
    content = json.loads(file.read_text("utf-8"))
    assert set(content["failures"]) == {"mma_rate", "launch_gap"}, answer.stderr
    assert content["measurements"] == {"copy_bandwidth": {"large_memcpy_bytes_per_second": 1e12}}
    assert content["dry_run"] and content["commit"] == "abc" and content["software"]["numpy"]
    assert [one["batch"] for one in content["pack"]] == [1, 2]
    assert [(one["layer"], one["batch"]) for one in content["layers"]] == [
        (layer, batch) for layer in ("64->32 3x3 @6", "64->64 3x3/2 @8") for batch in (1, 2)
    ]
    for one in content["layers"]:
        assert set(one["cold"]) == set(one["warm"]) == {"tile 0", "tile 1", "tile 2", "tile 3", "popcount"}
        assert one["cold_slots"] > 1 and one["chosen"] in one["cold_judged"]
        assert one["refused"] == one["failures"] == {}
    assert answer.stdout.count("\n| 64->") == 6
    assert [(one["model"], one["batch"], one["failures"]) for one in content["networks"]] == [
        ("small", 1, {}),
        ("small", 2, {}),
    ]
    ours = content["networks"][1]["judged"][report.OURS]
    assert ours["images_per_second"] == pytest.approx(2e6) and report.TORCH_FLOAT16 in ours["times_as_fast_as"]
    assert answer.stdout.count("\n| small | ") == 10


def test_networks_that_are_not_there_are_left_out(bench: Callable[..., Any], tmp_path: Path) -> None:
    answer = bench("--dry-run", "--no-torch")
    (file,) = (tmp_path / "out").iterdir()
    content = json.loads(file.read_text("utf-8"))
    assert content["networks"] == [] and len(content["layers"]) == 4
    assert "whole networks are left out: no folder in --models has" in answer.stderr


def test_a_bench_that_is_asked_to_end_ends_what_it_started(
    bench: Callable[..., Any], library: slots.Library, tmp_path: Path
) -> None:
    program, mark = tmp_path / "device_facts", tmp_path / "mark"
    program.write_text(f"#!/bin/sh\necho $$ >{mark}.half; mv {mark}.half {mark}; exec sleep 600\n", "utf-8")
    program.chmod(0o755)
    words = ["--library", library.path, "--plugin", HOST_PLUGIN, "--models", tmp_path, "--programs", tmp_path]
    command = [sys.executable, str(GPU / "bench_gpu.py"), *map(str, words), "--output", str(tmp_path / "out")]
    running = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL)
    while not mark.exists():
        time.sleep(0.05)
    running.terminate()
    assert running.wait(60) == 1
    with pytest.raises(ProcessLookupError):
        os.kill(int(mark.read_text()), 0)


# ---- the first run


def first_run(library: Path, plugin: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(GPU / "first_run.py"), "--library", str(library), "--plugin", str(plugin), *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_first_run_says_step_by_step_what_works(library: slots.Library, tmp_path: Path) -> None:
    ran = first_run(library.path, HOST_PLUGIN, "--dry-run")
    assert ran.returncode == 0, ran.stdout
    rows = {row.pop("step"): row for row in map(json.loads, ran.stdout.splitlines())}
    assert list(rows) == ["device", "layer", "plugin", "torch"] and rows["device"]["name"] == "host executor"
    assert rows["layer"]["right"] == list(range(library.popcount + 1)) and rows["plugin"]["ops"] > 30
    ran = first_run(library.path, tmp_path / "no-plugin.so", "--dry-run")
    assert ran.returncode == 1 and "OSError: " in ran.stdout and '"step": "torch"' in ran.stdout


def test_first_run_where_nothing_runs_is_one_line_and_status_2(tmp_path: Path) -> None:
    ran = first_run(tmp_path / "no-library.so", HOST_PLUGIN)
    assert ran.returncode == 2 and ran.stdout == "" and ran.stderr.count("\n") == 1
    assert ran.stderr.startswith("error: nothing runs here: ")


def test_first_run_names_kernels_with_wrong_integers(library: slots.Library, monkeypatch: pytest.MonkeyPatch) -> None:
    right = library.conv2d

    def wrong(*words: Any, kernel: int) -> dict[str, Any]:
        return {name: array + (kernel == 2) for name, array in right(*words, kernel=kernel).items()}

    monkeypatch.setattr(library, "conv2d", wrong)
    with pytest.raises(ArithmeticError, match=r"wrong integers: \[2\]"):
        first_run_module.first_layer(library)


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="there is no nvcc")
def test_programs_compile_to_the_instructions_that_they_measure(tmp_path: Path) -> None:
    sys.path.append(str(ROOT / "plugins" / "cuda"))
    from check_sass import disassemble

    options = ["-std=c++17", "-O3", "-I", str(ROOT / "plugins"), "-gencode", "arch=compute_90a,code=sm_90a", "-cubin"]
    compilers = {
        source.stem: subprocess.Popen(["nvcc", *options, "-o", str(tmp_path / source.stem), str(source)])
        for source in GPU.glob("*.cu")
    }
    assert set(compilers) == {*parts.PROGRAMS, "wgmma_rate", "device_facts"}
    assert {name: process.wait() for name, process in compilers.items()} == dict.fromkeys(compilers, 0)
    try:
        multiplies, asynchronous = (disassemble(tmp_path / name) for name in ("mma_rate", "wgmma_rate"))
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert "BMMA.168256.AND.POPC" in multiplies and "IMMA.16832.S8.S8" in multiplies
    assert asynchronous.count("BGMMA") >= 8 and asynchronous.count("IGMMA") >= 8
