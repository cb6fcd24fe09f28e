"""Tensors of PyTorch as the memory of a network: float nodes run on the GPU, in float16 channels last."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import torch
import torch_ops
from plugin_modules import LINEAR, Tensor
from slots import Array, driver

KINDS = {np.dtype(np.float32): torch.float32, np.dtype(np.float16): torch.float16, np.dtype(np.int32): torch.int32}
DTYPES = {kind: dtype for dtype, kind in KINDS.items()}


class TorchMemory:
    """See `device_memory.Memory`. A handle is a tensor.

    Args:
        constants: Of the network.
        device: `cuda`, or `cpu` in a dry run.
        executor: In a dry run, memory that the host executor knows: whatever plugins read or write is there.
    """

    def __init__(self, constants: Mapping[str, Array], device: str, executor: driver.Memory | None = None) -> None:
        self.floats = f"PyTorch {torch.__version__}, channels last"
        self._constants, self._device, self._executor = constants, device, executor
        torch.backends.cudnn.benchmark = True

    def constant(self, array: Array) -> Any:
        tensor = torch.from_numpy(array.copy(order="C")).to(self._device)
        last = tensor.dim() == 4 and tensor.is_floating_point()
        return tensor.contiguous(memory_format=torch.channels_last) if last else tensor

    def feed(self, array: Array) -> Any:
        return self.constant(array)

    def empty(self, name: str, tensor: Tensor) -> Any:
        kind = KINDS[np.dtype(tensor.dtype)]
        made = torch.empty(tensor.shape, dtype=kind, device=self._device, memory_format=_memory_format(tensor))
        return self._known(made)

    def arranged(self, handle: Any, tensor: Tensor) -> Any:
        return self._known(handle.contiguous(memory_format=_memory_format(tensor)))

    def address(self, handle: Any) -> int:
        return int(handle.data_ptr())

    def described(self, handle: Any) -> Tensor:
        return Tensor(tuple(handle.shape), DTYPES[handle.dtype])

    def stream(self) -> int | None:
        return int(torch.cuda.current_stream().cuda_stream) if self._executor is None else None

    def compute(self, node: onnx.NodeProto, inputs: Mapping[str, Any]) -> list[Any]:
        operands = [inputs[name] if name else None for name in node.input]
        return [torch_ops.compute(node, operands, [self._constants.get(name) for name in node.input])]

    def spoil(self, handle: Any) -> None:
        handle.fill_(driver.POISON)

    def read(self, handle: Any) -> Array:
        images = handle if len(handle) < 2 else torch.cat([handle[:1], handle[-1:]])
        array: Array = images.cpu().contiguous().numpy()
        return array

    def _known(self, tensor: Any) -> Any:
        """The tensor itself, or in a dry run a copy that the host executor knows."""
        if self._executor is None:
            return tensor
        address = self._executor.put(np.zeros(tensor.numel() * tensor.element_size(), np.uint8))
        memory = (ctypes.c_uint8 * (tensor.numel() * tensor.element_size())).from_address(address)
        copy = torch.frombuffer(memory, dtype=tensor.dtype).as_strided(tensor.size(), tensor.stride())
        return copy.copy_(tensor)


def _memory_format(tensor: Tensor) -> Any:
    return torch.contiguous_format if tensor.format == LINEAR else torch.channels_last
