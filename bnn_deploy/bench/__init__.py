"""How fast runners are, beside each other: they take turns, and a row says how one did.

Only the Runner protocol is known here. `rounds` times, `results` holds the arithmetic and the rows, `footprint` takes
load time and memory in a process of its own, `machine` says what it all ran on.
"""

from bnn_deploy.bench.footprint import Footprint, measure_footprint, run_worker
from bnn_deploy.bench.machine import describe_machine
from bnn_deploy.bench.results import BenchmarkRow, Times, latency_row
from bnn_deploy.bench.rounds import Schedule, interleave

__all__ = [
    "BenchmarkRow",
    "Footprint",
    "Schedule",
    "Times",
    "describe_machine",
    "interleave",
    "latency_row",
    "measure_footprint",
    "run_worker",
]
