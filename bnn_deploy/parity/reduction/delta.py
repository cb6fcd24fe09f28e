"""Delta debugging: the smallest part of something that still fails.

`ddmin` is the algorithm of Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", IEEE
Transactions on Software Engineering 28 (2002). What it returns is 1-minimal: without any single item it passes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

Item = TypeVar("Item")


@dataclass
class Budget:
    """How many runs may still be made. A search that has used it up keeps the smallest failure that it saw."""

    most: int
    spent: int = 0

    @property
    def exhausted(self) -> bool:
        """Whether no run is left."""
        return self.spent >= self.most


def ddmin(items: Sequence[Item], fails: Callable[[list[Item]], bool]) -> list[Item]:
    """The items, in order, that a failure needs.

    Args:
        items: All of which together fail; that is not tried again.
        fails: Whether a part of them, not empty and in order, does. It is asked at most `n**2 + 3 n` times for n items,
            and about `2 log2(n)` times where one item alone is to blame.
    """
    kept, pieces = list(items), 2
    while len(kept) > 1:
        parts = _split(kept, min(pieces, len(kept)))
        others = [[item for part in parts if part is not left_out for item in part] for left_out in parts]
        smaller = next((part for part in parts if fails(part)), None)
        if smaller is not None:
            kept, pieces = smaller, 2
            continue
        # With two parts the rest of each is the other, which has just been tried.
        smaller = next((rest for rest in others if fails(rest)), None) if len(parts) > 2 else None
        if smaller is not None:
            kept, pieces = smaller, max(pieces - 1, 2)
        elif pieces < len(kept):
            pieces = min(2 * pieces, len(kept))
        else:
            break
    return kept


def shrink_range(first: int, last: int, fails: Callable[[int, int], bool]) -> tuple[int, int]:
    """The smallest range inside `first <= i < last` that fails, cut from both ends in steps that halve.

    Args:
        fails: Whether the range from its first argument up to, without, its second does.
    """
    step = (last - first) // 2
    while step:
        if last - first > step and fails(first, last - step):
            last -= step
        elif last - first > step and fails(first + step, last):
            first += step
        else:
            step //= 2
    return first, last


def _split(items: list[Item], pieces: int) -> list[list[Item]]:
    """Into parts of nearly equal length, none empty."""
    ends = [len(items) * piece // pieces for piece in range(pieces + 1)]
    return [items[start:end] for start, end in pairwise(ends)]
