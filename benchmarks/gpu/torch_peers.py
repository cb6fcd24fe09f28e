"""The same layer in PyTorch, on the GPU: cuDNN's float16 convolution, and an int8 matrix product.

- `float16 conv`: cuDNN, channels last, the convolution alone: no bias, no residual, no activation. The fastest that can
  be asked of it.
- `float16 conv+add+relu`: cuDNN's fused one, with bias and residual, as a float16 network has it.
- `int8 matmul`: PyTorch has no int8 convolution. A stand-in: `torch._int_mm` of the unfolded input, [pixels, taps *
  channels], with an int32 result. It reads the input once for every tap and writes four bytes for each output value, so
  for layers that are bound by memory it is slower than a convolution would be.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

from floors import Layer
from slots import cold_slots
from turns import Contender

Run = Callable[[], Any]
DEVICE = "cuda"
WARM_UP = 3  # runs ahead of a recording: cuDNN chooses its algorithm, which cannot be recorded


def available(*, cuda: bool = True) -> bool:
    """Whether there is a PyTorch; cuda: that sees the GPU."""
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return not cuda or bool(torch.cuda.is_available())


class TorchRecording:
    """Runs of PyTorch in a CUDA graph. The outputs of the last runs are kept, so that those rotate too."""

    def __init__(self, runs_of_slots: list[Run], runs: int) -> None:
        import torch

        self._torch = torch
        for _ in range(WARM_UP):
            runs_of_slots[0]()
        torch.cuda.synchronize()
        self._graph = torch.cuda.CUDAGraph()
        kept: list[Any] = [None] * len(runs_of_slots)
        with torch.cuda.graph(self._graph):
            for run in range(runs):
                slot = run % len(runs_of_slots)
                kept[slot] = runs_of_slots[slot]()
        self._kept = kept
        self._begin, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def milliseconds(self) -> float:
        """See `turns.Recording`."""
        self._graph.replay()
        self._begin.record()
        self._graph.replay()
        self._end.record()
        self._end.synchronize()
        return float(self._begin.elapsed_time(self._end))

    def close(self) -> None:
        """See `turns.Recording`."""
        self._kept.clear()
        self._graph.reset()
        self._torch.cuda.empty_cache()


def graph_nodes(run: Run) -> int | None:
    """How many kernels and copies a run launches, as a recording of it has them; None where nothing here can tell."""
    import torch

    try:
        from cuda.bindings import runtime

        graph = torch.cuda.CUDAGraph(keep_graph=True)
        with torch.cuda.graph(graph):
            kept = run()
        status, _, count = runtime.cudaGraphGetNodes(runtime.cudaGraph_t(graph.raw_cuda_graph()))
    except (ImportError, TypeError, AttributeError):  # other versions of either
        return None
    del kept
    return None if int(status) else int(count)


def peers(layer: Layer, batch: int, l2_bytes: int, *, cold: bool) -> dict[str, Callable[[], Contender]]:
    """What makes each contender. To be called one by one: each may fail, for want of memory or of a function.

    l2_bytes: Of the cache, which the copies of a cold contender fill several times over.
    """

    def made(run_of: Callable[[Layer, int], tuple[Run, int]]) -> Callable[[], Contender]:
        def make() -> Contender:
            run, set_bytes = run_of(layer, batch)
            slots = cold_slots(set_bytes, l2_bytes) if cold else 1
            runs = [run, *(run_of(layer, batch)[0] for _ in range(slots - 1))]
            return Contender(lambda count: TorchRecording(runs, count), slots)

        return make

    return {
        "float16 conv": made(_float16_conv),
        "float16 conv+add+relu": made(_float16_fused),
        "int8 matmul": made(_int8_matmul),
    }


def _float16_operands(layer: Layer, batch: int) -> tuple[Any, Any, Any, int]:
    """x, w, residual, and the bytes of x, w and y."""
    import torch

    torch.backends.cudnn.benchmark = True

    def values(*shape: int) -> Any:
        drawn = torch.randn(shape, device=DEVICE, dtype=torch.float16)
        return drawn.contiguous(memory_format=torch.channels_last)

    x = values(batch, layer.channels, layer.size, layer.size)
    w = values(layer.outputs, layer.channels, layer.kernel, layer.kernel)
    residual = values(batch, layer.outputs, layer.out_size, layer.out_size)
    return x, w, residual, 2 * (x.numel() + w.numel() + residual.numel())


def _float16_conv(layer: Layer, batch: int) -> tuple[Run, int]:
    import torch

    x, w, _, set_bytes = _float16_operands(layer, batch)
    return lambda: torch.conv2d(x, w, None, layer.stride, layer.pad), set_bytes


def _float16_fused(layer: Layer, batch: int) -> tuple[Run, int]:
    import torch

    x, w, residual, set_bytes = _float16_operands(layer, batch)
    bias = torch.randn(layer.outputs, device=DEVICE, dtype=torch.float16)
    stride, pad = [layer.stride] * 2, [layer.pad] * 2

    def run() -> Any:
        return torch.cudnn_convolution_add_relu(x, w, residual, 1.0, bias, stride, pad, [1, 1], 1)

    return run, set_bytes + 2 * residual.numel()


def _int8_matmul(layer: Layer, batch: int) -> tuple[Run, int]:
    import torch

    pixels, depth = batch * layer.out_size**2, layer.channels * layer.kernel**2

    def values(*shape: int) -> Any:
        return torch.randint(-128, 128, shape, device=DEVICE, dtype=torch.int8)

    a, b = values(pixels, depth), values(layer.outputs, depth).t()
    return lambda: torch._int_mm(a, b), a.numel() + b.numel() + 4 * pixels * layer.outputs
