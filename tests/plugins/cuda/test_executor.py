"""The host executor can fail: each fault that it promises to find is planted in a small kernel, and found.

The kernels are in `plugins/tests/executor_faults.cpp`; the lines on which they go wrong say so.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from cuda_builds import BUILT, PLUGINS, built

SOURCE = PLUGINS / "tests" / "executor_faults.cpp"
ORDERS = ("ascending", "descending", "shuffled")
SOUND = ("stage_through_shared_memory", "stay_in_bounds_with_vectors", "count_threads")

# What is said of each kernel. A slash separates what is said in ascending order from what is said in descending order.
FAULTS = {
    "read_unwritten": r"reads shared byte 28, not written",
    "read_before_waiting": r"reads shared byte \d+ before its asynchronous copy was waited for",
    "wait_after_the_barrier": r"reads shared byte \d+ before its asynchronous copy was waited for",
    "write_into_a_copy": r"writes shared byte \d+ while an asynchronous copy into it is under way",
    "read_and_write": (
        r"writes shared byte 0 that thread 5 touches, with no barrier between them"
        r"/reads shared byte 0 that thread 40 writes, with no barrier between them"
    ),
    "write_after_many_reads": r"writes shared byte 0 that thread \d+ touches, with no barrier between them",
    "write_after_write": r"writes shared byte \d+ that thread \d+ touches, with no barrier between them",
    "exchange_within_a_warp": r"reads shared byte \d+ that thread \d+ writes, with no barrier between them",
    "exceed_shared_memory": r"touches shared bytes 512 to 516 of 512",
    "precede_shared_memory": r"touches shared bytes -4 to 0 of 512",
    "misalign_a_shared_vector": r"touches shared memory not aligned to its 8 bytes",
    "exceed_an_allocation": r"touches memory that nobody allocated",
    "straddle_the_end": r"touches bytes 510 to 514 of an allocation of 512",
    "misalign_a_global_vector": r"is not aligned to its 16 bytes",
    "misalign_a_copy": r"is not aligned to its 8 bytes",
    "touch_memory_of_the_host": r"touches memory that nobody allocated",
    "write_together": r"writes a byte that another thread of the launch has written",
    "write_bytes_of_a_word_twice": r"writes a byte that another thread of the launch has written",
    "read_what_another_wrote": r"reads a byte that another thread of the launch has written",
    "write_what_others_count_in": r"writes a byte that another thread of the launch has written",
    "part_at_a_barrier": r"waits at a barrier while thread \d+ waits at another, line \d+",
    "leave_before_a_barrier": r"waits at a barrier that thread 40 never reaches",
    "miss_a_vote": r"waits for its warp, and the others do not come",
    "wait_for_a_vote_at_a_barrier": r"waits for (its warp|the block), and the others do not come",
    "mix_operations": (
        r"shuffle while other threads of the warp wait at ballot, line \d+"
        r"/ballot while other threads of the warp wait at shuffle, line \d+"
    ),
    "mix_products": r"multiply_\w+ while other threads of the warp wait at multiply_\w+, line \d+",
}


def run(kernel: str, order: str) -> subprocess.CompletedProcess[str]:
    """Runs one kernel of the program."""
    return subprocess.run([program(), kernel, order], capture_output=True, text=True, timeout=60)


def program() -> Path:
    return built(BUILT / "host" / "executor_faults", "the program with faults")


def lines_of(kernel: str) -> set[int]:
    """The lines of the source that are marked as the kernel's fault."""
    marked = re.compile(rf"// fault: {kernel}$")
    return {number for number, line in enumerate(SOURCE.read_text("utf-8").splitlines(), 1) if marked.search(line)}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kernel", FAULTS)
def test_fault_is_found_where_it_is(kernel: str, order: str) -> None:
    """The message names the kernel, the block, the thread, the line and what is wrong there."""
    ended = run(kernel, order)
    assert ended.returncode == 1, ended
    place = re.fullmatch(
        rf"{kernel}, block ([01]),0,0, thread (\d+), executor_faults\.cpp:(\d+): (.*)", ended.stdout.strip()
    )
    assert place is not None, ended.stdout
    assert int(place[2]) < 64
    assert int(place[3]) in lines_of(kernel)
    said = FAULTS[kernel].split("/")
    wanted = "|".join(said) if order == "shuffled" else said[0] if order == "ascending" else said[-1]
    assert re.fullmatch(wanted, place[4]), place[4]
    assert place[1] == ("1" if order == "descending" else "0")


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kernel", SOUND)
def test_sound_kernels_pass(kernel: str, order: str) -> None:
    ended = run(kernel, order)
    assert (ended.returncode, ended.stdout) == (0, "")


def test_what_depends_on_the_order_shows_in_one_of_them() -> None:
    """This is why tests run every kernel in several orders."""
    ends = {order: run("depend_on_the_order_of_blocks", order) for order in ("ascending", "descending")}
    assert ends["ascending"].returncode == 0
    assert "reads a byte that another thread of the launch has written" in ends["descending"].stdout


def test_every_kernel_of_the_program_is_tested() -> None:
    names = subprocess.run([program()], capture_output=True, text=True, check=True).stdout.split()
    assert sorted(names) == sorted([*SOUND, *FAULTS, "depend_on_the_order_of_blocks"])


@pytest.mark.parametrize("source", sorted((PLUGINS / "cuda").glob("*.cuh")), ids=lambda path: path.name)
def test_kernels_reach_the_hardware_through_wrappers_alone(source: Path) -> None:
    """What a kernel does behind the executor's back, no order and no shadow memory can judge."""
    builtins = (
        r"\b(threadIdx|blockIdx|blockDim|gridDim|__sync\w*|__shfl\w*|__ballot\w*|__popc|__shared__|asm|atomic\w+)\b"
    )
    found = re.findall(builtins, source.read_text("utf-8"))
    assert found == [] or source.name == "ptx.cuh"
