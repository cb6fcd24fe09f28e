"""What a benchmark says, and the arithmetic from times to that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bnn_deploy.bench.footprint import Footprint


@dataclass(frozen=True)
class Times:
    """Percentiles of one contender, and its ratio to the one that it is compared with.

    Attributes:
        p10_ms: A tenth of the rounds took less, by linear interpolation.
        p50_ms: The median.
        p90_ms: Nine tenths took less.
        ratio: How many times as fast as the other: the median over the rounds of `other / own`.
    """

    p10_ms: float
    p50_ms: float
    p90_ms: float
    ratio: float

    @classmethod
    def of(cls, own_ms: Sequence[float], other_ms: Sequence[float]) -> Times:
        """From times of the same rounds, in the order of the rounds."""
        if len(own_ms) != len(other_ms):
            raise ValueError(f"{len(own_ms)} times beside {len(other_ms)}: not of the same rounds")
        p10, p50, p90 = (float(value) for value in np.percentile(own_ms, (10, 50, 90)))
        return cls(p10, p50, p90, float(np.median(np.divide(other_ms, own_ms))))


@dataclass(frozen=True)
class BenchmarkRow:
    """One runner at one batch size and number of threads.

    Attributes:
        runner: Its name.
        model: The file that was given.
        batch: Images in one inference.
        threads: Threads that the runner may use within an operator.
        rounds: How many times were kept.
        p10_ms: See `Times`; of one inference of the whole batch.
        p50_ms: Likewise.
        p90_ms: Likewise.
        ratio: How many times as fast as the first runner, which has 1.0; see `Times`.
        images_per_second: `batch / p50`.
        load_ms: See `Footprint`, as for the next two.
        peak_rss_bytes: Likewise.
        base_rss_bytes: Likewise.
        file_bytes: The size of the file that it loads; None where it loads none.
        difference: Of the outputs from the first runner's: the largest, relative to the largest output there;
            None where that is not a number.
    """

    runner: str
    model: str
    batch: int
    threads: int
    rounds: int
    p10_ms: float
    p50_ms: float
    p90_ms: float
    ratio: float
    images_per_second: float
    load_ms: float
    peak_rss_bytes: int | None
    base_rss_bytes: int | None
    file_bytes: int | None
    difference: float | None

    @property
    def network_rss_bytes(self) -> int | None:
        """What loading the file and running it added to the memory of the process."""
        if self.peak_rss_bytes is None or self.base_rss_bytes is None:
            return None
        return max(self.peak_rss_bytes - self.base_rss_bytes, 0)


def latency_row(
    times: dict[str, list[float]],
    runner: str,
    footprint: Footprint,
    *,
    model: str,
    batch: int,
    threads: int,
    file_bytes: int | None,
    difference: float | None,
) -> BenchmarkRow:
    """The row of `runner` out of the times of all runners, the first of which it is compared with."""
    found = Times.of(times[runner], next(iter(times.values())))
    return BenchmarkRow(
        runner=runner,
        model=model,
        batch=batch,
        threads=threads,
        rounds=len(times[runner]),
        p10_ms=found.p10_ms,
        p50_ms=found.p50_ms,
        p90_ms=found.p90_ms,
        ratio=found.ratio,
        images_per_second=1e3 * batch / found.p50_ms,
        load_ms=footprint.load_ms,
        peak_rss_bytes=footprint.peak_rss_bytes,
        base_rss_bytes=footprint.base_rss_bytes,
        file_bytes=file_bytes,
        difference=difference,
    )
