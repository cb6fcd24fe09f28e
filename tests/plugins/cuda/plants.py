"""Bugs to plant in the kernels: one exact piece of their source each, and what it is replaced with."""

from __future__ import annotations

from dataclasses import dataclass

RACE = "no barrier between them"
WRONG = r"wrong (accumulator|y|bits)"


@dataclass(frozen=True)
class Plant:
    """A bug.

    Attributes:
        name: What is wrong.
        file: In which file of `plugins/cuda`.
        right, wrong: Its text, which stands there exactly once, and what replaces it.
        caught: How the tests notice, as a regular expression: a fault of the executor, or a wrong result.
        unit: The source that is compiled again.
    """

    name: str
    file: str
    right: str
    wrong: str
    caught: str = WRONG
    unit: str = "conv.cu"


PLANTS = (
    # ---- fragments
    Plant(
        "words of A swapped",
        "packed_operands.cuh",
        "a[m][half] = words.values[0];\n          a[m][half + 2] = words.values[1];",
        "a[m][half] = words.values[1];\n          a[m][half + 2] = words.values[0];",
    ),
    Plant("a wrong element of C", "conv_tile.cuh", "[half * 2 + k % 2]", "[k % 2 * 2 + half]"),
    Plant(
        "a wrong row of A",
        "conv_tile.cuh",
        "group_(thread_index() % kWarpThreads / 4)",
        "group_(thread_index() % 8)",
        f"another thread|{WRONG}",
    ),
    Plant(
        "a wrong column of B",
        "packed_operands.cuh",
        "(j * 8 + group_) * plan_.weight_words",
        "(j * 8 + part_) * plan_.weight_words",
    ),
    Plant(
        "channels in another order",
        "tile_plan.h",
        "column / 2 * 8 + column_tile % 4 * 2",
        "column / 2 * 2 + column_tile % 4 * 8",
    ),
    Plant("bytes of B not mirrored", "packed_operands.cuh", "mirror_bytes(load(from + n))", "load(from + n)"),
    Plant("another bit of B", "products.cuh", "0x80808080u >> part", "0x80808080u >> (part ^ 1)"),
    Plant("popcounts added to bytes", "products.cuh", "kSumInCount = -64", "kSumInCount = 64"),
    Plant("int8 signs", "widened_operands.cuh", "0xc0c0c0c0u", "0x40404040u"),
    Plant(
        "registers of B swapped",
        "widened_operands.cuh",
        "registers.values[2 * n] = widen_to_sign(bits, part);\n        registers.values[2 * n + 1] =",
        "registers.values[2 * n + 1] = widen_to_sign(bits, part);\n        registers.values[2 * n] =",
    ),
    Plant("registers of A swapped", "widened_operands.cuh", "half + i % 2 * 2", "half + (3 - i) % 2 * 2"),
    Plant(
        "bits overwritten before they are widened",
        "widened_operands.cuh",
        "plan_.tap_words - 1; word >= 0; --word",
        "0; word < plan_.tap_words; ++word",
    ),
    # ---- barriers and copies
    Plant(
        "no barrier behind the copies",
        "conv_tile.cuh",
        "        wait_for_copies();\n        synchronize_block();\n",
        "        wait_for_copies();\n",
        "not written|asynchronous copy was waited for|" + RACE,
    ),
    Plant(
        "copies not waited for", "conv_tile.cuh", "        wait_for_copies();\n", "", "asynchronous copy was waited for"
    ),
    Plant(
        "no barrier behind the popcounts",
        "conv_tile.cuh",
        "sum_pixels();\n          synchronize_block();",
        "sum_pixels();",
        "not written|" + RACE,
    ),
    Plant(
        "no barrier behind the widening",
        "conv_tile.cuh",
        "widen_halo();\n          synchronize_block();",
        "widen_halo();",
        "not written|" + RACE,
    ),
    Plant(
        "no barrier before the next halo", "conv_tile.cuh", "synchronize_block();  // all have read the halo", "", RACE
    ),
    # ---- the halo, and what is filled with zeros
    Plant(
        "a halo one row short",
        "tile_plan.cpp",
        "crossings * next_image + (task.kernel_height - 1) * task.dilation_y + 1",
        "crossings * next_image + (task.kernel_height - 1) * task.dilation_y",
        f"not written|touches shared bytes|{WRONG}",
        unit="tile_plan.cpp",
    ),
    Plant(
        "a halo one column late",
        "conv_tile.cuh",
        "* task_.stride_x - task_.pad_left;",
        "* task_.stride_x - task_.pad_left + 1;",
    ),
    Plant(
        "no zeros above the image",
        "conv_tile.cuh",
        "y >= 0 && y < task_.height",
        "y < task_.height",
        f"allocat|{WRONG}",
    ),
    Plant(
        "no zeros behind the last word of a tap",
        "packed_operands.cuh",
        "tap < task_.taps() && word < task_.words;",
        "tap < task_.taps();",
        f"allocat|{WRONG}",
    ),
    Plant(
        "steps behind the last tap", "packed_operands.cuh", "if (at >= 0) words =", "words =", f"touches shared|{WRONG}"
    ),
    Plant(
        "a band's first column forgotten",
        "conv_tile.cuh",
        "(pixel.column - first_column(tile))",
        "pixel.column",
        f"shared|{WRONG}",
    ),
    Plant(
        "columns behind the last band",
        "conv_tile.cuh",
        " || pixel.column >= task_.out_width) continue",
        ") continue",
        "launch|allocat",
    ),
    # ---- sums and corrections
    Plant("lesser plane added", "conv_tile.cuh", "if (plane == 1) negate();", ""),
    Plant("half of a window's popcount", "packed_operands.cuh", "      sum += shuffle_xor(sum, 2);\n", ""),
    Plant(
        "a border class of the other side",
        "tasks.h",
        "x.before * (task.padded_right + 1) + x.behind",
        "x.behind * (task.padded_right + 1) + x.before",
    ),
    Plant(
        "one padded row too few",
        "border_table.cuh",
        "row >= task.kernel_height - below",
        "row > task.kernel_height - below",
    ),
    Plant("bits of a group cut off", "conv_popcount.cuh", "<< (32 - shift_)", "<< (31 - shift_)"),
    # ---- epilogue
    Plant(
        "channels behind the last one written",
        "epilogue.cuh",
        "last && channels == kUnit &&",
        "last &&",
        "launch|allocat",
    ),
    Plant("bits behind the last channel", "epilogue.cuh", "i < at.channels && within(", "within("),
    # ---- packing and pooling
    Plant("a threshold that is not reached", "pack.cuh", "return x >= lower;", "return x > lower;", unit="bits.cu"),
    Plant("NaN is not -1", "pack.cuh", "return !(x >= 0.0f);", "return x < 0.0f;", unit="bits.cu"),
    Plant(
        "a vote of one lane too many",
        "pack.cuh",
        "if (lane == 0) store(out,",
        "if (lane < 2) store(out,",
        "another thread",
        "bits.cu",
    ),
    Plant(
        "a pixel beyond the row", "max_pool.cuh", "x >= task.width)", "x > task.width)", f"allocat|{WRONG}", "bits.cu"
    ),
)
