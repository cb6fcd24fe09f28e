"""Whether a module's forward is being recorded for an ONNX file, and by which exporter.

Two exporters, two ways in. `torch.onnx.export(dynamo=True)` runs forward under `torch.export`, where a module emits its
op with `torch.onnx.ops.symbolic`. The older one (`dynamo=False`) traces real calls and asks an `autograd.Function` for
its `symbolic` method. Both end in the same ops of `bnn_deploy.opset`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch.jit import is_tracing

_SYMBOLIC_CAPTURE: ContextVar[bool] = ContextVar("bnn_deploy_symbolic_capture", default=False)


@contextmanager
def symbolic_capture() -> Iterator[None]:
    """Modules emit symbolic ops inside, so that `torch.export.export` alone yields a program ready for ONNX."""
    token = _SYMBOLIC_CAPTURE.set(True)
    try:
        yield
    finally:
        _SYMBOLIC_CAPTURE.reset(token)


def emits_symbolic_ops() -> bool:
    """True while `torch.export` records for ONNX."""
    return _SYMBOLIC_CAPTURE.get() or (torch.onnx.is_in_onnx_export() and torch.compiler.is_exporting())


def traces_for_legacy_exporter() -> bool:
    """True while `torch.onnx.export(dynamo=False)` traces."""
    return torch.onnx.is_in_onnx_export() and is_tracing()
