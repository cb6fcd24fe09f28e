"""Numbers, sizes and names as the page shows them."""

from __future__ import annotations

from bnn_deploy.inspection import TensorSize

_STEPS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
UNKNOWN = "unknown"


def short(value: float | None, unit: str = "") -> str:
    """`1.68 G`, `118 M`, `960`; three digits, in powers of 1000. With a unit: `4.22 MB`."""
    if value is None:
        return UNKNOWN
    for step, letter in _STEPS:
        if value >= step:
            return f"{value / step:.{_decimals(value / step)}f} {letter}{unit}"
    return f"{value:,.0f} {unit}".rstrip()


def bytes_of(value: float | None) -> str:
    """`4.22 MB`."""
    return short(value, "B")


def ratio(before: float, after: float) -> str:
    """`11.1x`."""
    return f"{before / after:.{_decimals(before / after)}f}x" if after else "all of it"


def clip(text: str, width: int) -> str:
    """At most `width` characters; what is too long loses its middle, for paths differ at their ends."""
    if len(text) <= width:
        return text
    tail = (width - 1) * 2 // 3
    return f"{text[: width - 1 - tail]}…{text[-tail:]}"


def size_of(size: TensorSize | None) -> str:
    """`1x64x56x56 float32, 803 kB`; packed bits say so."""
    if size is None:
        return "of unknown size"
    return f"{'x'.join(map(str, size.shape))} {size.dtype}{' of bits' if size.bits else ''}, {bytes_of(size.bytes)}"


def _decimals(value: float) -> int:
    return 2 if value < 10 else 1 if value < 100 else 0
