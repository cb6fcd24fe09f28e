"""From times to what they mean: bandwidths, rates, and how near each is to its floor. And the tables.

Nothing here measures, so that all of it is tested without a GPU.
"""

from __future__ import annotations

from typing import Any

from floors import Ceilings, Work
from network_work import node_floor_us

Row = dict[str, Any]
PEERS = ("float16 conv", "float16 conv+add+relu", "int8 matmul")
OURS, OURS_BINARY, OURS_TENSORRT = "plugin calls", "plugin calls, 1-bit part", "TensorRT, plugin"
TENSORRT_FLOAT16, TENSORRT_INT8, TORCH_FLOAT16 = "TensorRT float16", "TensorRT int8", "PyTorch float16"
CONVOLUTIONS_ALONE, INT8_MATMULS = "PyTorch float16, convolutions alone", "PyTorch int8 matmuls"
NETWORK_PEERS = (TENSORRT_FLOAT16, TENSORRT_INT8, TORCH_FLOAT16, CONVOLUTIONS_ALONE, INT8_MATMULS)
LAUNCH_GAP = ("launch_gap", "one_block_graph_us")
PACKED = ("float32 NCHW", "float32 NHWC", "float16 NCHW", "float16 NHWC")


def ceilings(measurements: dict[str, Row]) -> Ceilings | None:
    """The measured ones: the fastest copy, and the fastest instruction of each kind; None where one is missing."""

    def fastest(program: str, ending: str) -> float:
        return max((v for k, v in measurements.get(program, {}).items() if k.endswith(ending)), default=0.0)

    def macs(kind: str) -> float:
        return max(fastest(program, f"{kind}_macs_per_second") for program in ("mma_rate", "wgmma_rate"))

    copies = measurements.get("copy_bandwidth", {})
    bandwidth = max((v for k, v in copies.items() if k.startswith("large_") and k.endswith("_per_second")), default=0.0)
    int8 = macs("int8")
    found = Ceilings(bandwidth, max(macs("b1_and"), macs("b1_xor"), int8), int8)  # bits can be multiplied as int8 too
    return found if min(found.bytes_per_second, found.binary_macs_per_second, found.int8_macs_per_second) > 0 else None


def judge_layer(row: Row, limits: Ceilings | None) -> Row:
    """A row with what follows from the times of the chosen kernel and of the fastest one, cold and warm."""
    judged = dict(row)
    work, int8 = Work(row["bytes"], row["macs"]), Work(row["int8_bytes"], row["macs"])
    if limits:
        judged["floor_us"] = 1e6 * work.seconds(limits.bytes_per_second, limits.binary_macs_per_second)
        judged["int8_floor_us"] = 1e6 * int8.seconds(limits.bytes_per_second, limits.int8_macs_per_second)
    for state in ("cold", "warm"):
        times = {name: own["p50_us"] for name, own in row.get(state, {}).items()}
        ours = {name: us for name, us in times.items() if name not in PEERS}
        if not ours:
            continue
        fastest = min(ours, key=lambda name: ours[name])
        judged[f"{state}_fastest"] = fastest
        judged[f"{state}_judged"] = {
            name: _judged(ours[name], work, judged.get("floor_us"), {p: times[p] for p in PEERS if p in times})
            for name in dict.fromkeys((row["chosen"], fastest))
            if name in ours
        }
    return judged


def _judged(us: float, work: Work, floor_us: float | None, peers: dict[str, float]) -> Row:
    """What one time means."""
    found: Row = {
        "us": us,
        "bytes_per_second": work.bytes / us * 1e6,
        "macs_per_second": work.macs / us * 1e6,
        "times_as_fast_as": {name: other / us for name, other in peers.items()},
    }
    return found | ({"of_floor": floor_us / us} if floor_us else {})


def judge_pack(row: Row, limits: Ceilings | None) -> Row:
    """Likewise for packing, which is bound by memory."""
    judged = dict(row)
    for name in PACKED:
        if name in row:
            bandwidth = row[name]["bytes"] / row[name]["p50_us"] * 1e6
            of_floor = {"of_floor": bandwidth / limits.bytes_per_second} if limits else {}
            judged[name] = row[name] | {"bytes_per_second": bandwidth} | of_floor
    return judged


def judge_network(row: Row, limits: Ceilings | None, launch_gap_us: float | None) -> Row:
    """A row of a network with its floors, and what the time of each contender means.

    Floors are those of the whole network as its file has it, and of its 1-bit nodes; the launch floor is a kernel a
    node, each as long after the last one as small kernels in a CUDA graph are. `judged` has milliseconds and images a
    second of each contender, and for ours what share of the floors it reaches and how many times as fast as each peer
    it is.
    """
    judged = {name: value for name, value in row.items() if name != "nodes"}
    binary = [node for node in row["nodes"] if node["binary"]]
    for prefix, nodes in (("", row["nodes"]), ("binary_", binary)):
        judged[f"{prefix}fewest_launches"] = len(nodes)
        if launch_gap_us is not None:
            judged[f"{prefix}launch_floor_us"] = launch_gap_us * len(nodes)
        if limits:
            judged[f"{prefix}floor_us"] = sum(node_floor_us(node, limits) for node in nodes)
    times = {name: own["p50_us"] for name, own in row["times"].items()}
    judged["judged"] = {name: _judged_network(name, own, judged, times) for name, own in row["times"].items()}
    return judged


def _judged_network(name: str, own: Row, row: Row, times: dict[str, float]) -> Row:
    """What the time of a contender means. row: with the floors; times: of all."""
    found: Row = {f"p{p}_ms": own[f"p{p}_us"] / 1e3 for p in (10, 50, 90)}
    found["images_per_second"] = row["batch"] / own["p50_us"] * 1e6
    if name not in (OURS, OURS_BINARY, OURS_TENSORRT):
        return found
    prefix = "binary_" if name == OURS_BINARY else ""
    for floor in ("floor_us", "launch_floor_us"):
        if prefix + floor in row:
            found[f"of_{floor.removesuffix('_us')}"] = row[prefix + floor] / own["p50_us"]
    if name != OURS_BINARY:
        found["times_as_fast_as"] = {peer: times[peer] / own["p50_us"] for peer in NETWORK_PEERS if peer in times}
    return found


def convolution_sums(layers: list[Row]) -> list[Row]:
    """The 16 convolutions of Bi-Real-Net-18 added up, with the cache cold, where every layer was measured."""
    found = []
    for batch in sorted({row["batch"] for row in layers}):
        own = [row for row in layers if row["batch"] == batch and row["count"]]
        chosen = [row.get("cold_judged", {}).get(row["chosen"]) for row in own]
        if sum(row["count"] for row in own) != 16 or not all(chosen):
            continue
        total: Row = {"batch": batch, "us": sum(r["count"] * c["us"] for r, c in zip(own, chosen, strict=True) if c)}
        for peer in PEERS:
            times = [row["cold"].get(peer, {}).get("p50_us") for row in own]
            if all(times):
                total[peer] = sum(row["count"] * us for row, us in zip(own, times, strict=True))
        for floor in ("floor_us", "int8_floor_us"):
            if all(floor in row for row in own):
                total[floor] = sum(row["count"] * row[floor] for row in own)
        found.append(total)
    return found


def tables(content: Row) -> str:
    """Everything, as Markdown."""
    parts = [_measurements(content["measurements"])]
    asked = content.get("tensorrt", {})
    if asked:
        parts.append(f"TensorRT: {asked.get('title') or asked['refused']}")
    if content["pack"]:
        parts.append(_pack_table(content["pack"]))
    if content["layers"]:
        parts.append(_layer_table(content["layers"]))
    if content["convolution_sums"]:
        parts.append(_sum_table(content["convolution_sums"]))
    if content["networks"]:
        parts.append(_network_table(content["networks"]))
    if content["failures"]:
        parts.append("\n".join(["failed:", *(f"- {name}: {why}" for name, why in content["failures"].items())]))
    return "\n\n".join(parts)


def _table(headings: list[str], rows: list[list[str]]) -> str:
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: float | None, digits: int = 3) -> str:
    """A figure, or a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}g}" if value < 1000 else f"{value:.0f}"


def _measurements(measurements: dict[str, Row]) -> str:
    rows = []
    for program, values in measurements.items():
        for name, value in values.items():
            if isinstance(value, int | float):
                scaled = f"{value / 1e12:.4g} T/s" if name.endswith("_per_second") else f"{value:.4g}"
                rows.append([f"{program}: {name.removesuffix('_per_second').replace('_', ' ')}", scaled])
    return _table(["measured", "value"], rows)


def _pack_table(rows: list[Row]) -> str:
    def cell(own: Row | None) -> str:
        if own is None:
            return "-"
        return f"{_number(own['p50_us'])} us, {own['bytes_per_second'] / 1e9:.0f} GB/s, {_percent(own.get('of_floor'))}"

    headings = ["pack, cold", "batch", *PACKED]
    return _table(
        headings, [[row["layer"], str(row["batch"]), *(cell(row.get(name)) for name in PACKED)] for row in rows]
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _layer_table(rows: list[Row]) -> str:
    headings = [
        "layer",
        "batch",
        "kernel",
        "cold us",
        "warm us",
        "fastest, cold",
        "floor us",
        "of floor",
        "GB/s",
        "TMAC/s",
    ]
    headings += [f"{peer}, us" for peer in PEERS] + ["int8 floor us"]
    lines = []
    for row in rows:
        cold, warm = (row.get(f"{state}_judged", {}).get(row["chosen"], {}) for state in ("cold", "warm"))
        fastest = row.get("cold_fastest")
        best = row["cold"][fastest]["p50_us"] if fastest else None
        rates = [cold.get(name) for name in ("bytes_per_second", "macs_per_second")]
        peers = [row.get("cold", {}).get(peer, {}).get("p50_us") for peer in PEERS]
        lines.append(
            [
                row["layer"],
                str(row["batch"]),
                row["chosen"],
                _number(cold.get("us")),
                _number(warm.get("us")),
                f"{fastest}: {_number(best)}",
                _number(row.get("floor_us")),
                _percent(cold.get("of_floor")),
                *(_number(rate and rate / unit, 4) for rate, unit in zip(rates, (1e9, 1e12), strict=True)),
                *map(_number, peers),
                _number(row.get("int8_floor_us")),
            ]
        )
    return _table(headings, lines)


def _sum_table(rows: list[Row]) -> str:
    headings = ["16 convolutions, cold, us", "ours", "floor", *PEERS, "int8 floor"]
    names = ["us", "floor_us", *PEERS, "int8_floor_us"]
    return _table(headings, [[f"batch {row['batch']}", *(_number(row.get(name), 4) for name in names)] for row in rows])


def _network_table(rows: list[Row]) -> str:
    headings = ["network", "batch", "contender", "p10 ms", "p50 ms", "p90 ms", "images/s", "of floor", "of launches"]
    lines = []
    for row in rows:
        for name, own in row["judged"].items():
            times = [_number(own[f"p{p}_ms"]) for p in (10, 50, 90)]
            shares = [_percent(own.get(name)) for name in ("of_floor", "of_launch_floor")]
            lines.append([row["model"], str(row["batch"]), name, *times, f"{own['images_per_second']:.0f}", *shares])
    return _table(headings, lines)
